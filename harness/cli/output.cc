#include "harness/cli/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace twinwalk::cli {
namespace {

[[noreturn]] void fail_output() {
  throw Failure(fmt::format("standard output: {}", std::strerror(errno)));
}

bool wants_colour() {
  static const bool wants = isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  return wants;
}

}  // namespace

void write_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) fail_output();
}

void flush_out() {
  if (std::fflush(stdout) != 0) fail_output();
}

std::string paint(Tone tone, std::string_view text) {
  static constexpr std::string_view kCodes[] = {"", "1", "2", "32", "1;31", "36"};
  const std::string_view code = kCodes[static_cast<unsigned>(tone)];
  if (code.empty() || !wants_colour()) return std::string(text);
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

}  // namespace twinwalk::cli
