// The program `twinwalk`: one verb, its options, and an exit code that CI can rely on.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "harness/cli/doctor.h"
#include "harness/cli/output.h"

namespace twinwalk::cli {
namespace {

// Adds every verb; the one that is called leaves its exit code in `code`.
void add_verbs(CLI::App& app, int& code) {
  app.add_subcommand("doctor", "What this machine can run, and what to do about the rest")
      ->callback([&code] { code = doctor(); });
}

// One line, whatever the library's message looks like.
std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (char& c : text) {
    if (c == '\n') c = ' ';
  }
  return text;
}

int run_program(int argc, char** argv) {
  CLI::App app("Differential fuzzing and conformance of x86 MMU virtualization", "twinwalk");
  app.set_version_flag("--version", std::string("twinwalk ") + TWINWALK_VERSION);
  app.require_subcommand(1);
  int code = kExitGood;
  add_verbs(app, code);
  try {
    app.parse(argc, argv);
    flush_out();
    return code;
  } catch (const CLI::Success& asked) {  // --help, --version
    app.exit(asked);
    flush_out();
    return kExitGood;
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "twinwalk: {}\n", one_line(error.what()));
  } catch (const std::exception& error) {
    fmt::print(stderr, "twinwalk: {}\n", one_line(error.what()));
  }
  return kExitBad;
}

}  // namespace
}  // namespace twinwalk::cli

int main(int argc, char** argv) { return twinwalk::cli::run_program(argc, argv); }
