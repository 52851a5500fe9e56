#include "harness/cli/report_verb.h"

#include <fmt/format.h>

#include <filesystem>

#include "harness/cli/input.h"
#include "harness/cli/output.h"
#include "harness/cli/serial_report.h"
#include "reports/ci_formats.h"
#include "reports/html.h"
#include "reports/results.h"

namespace twinwalk::cli {
namespace {

std::string render(const reports::Results& results, const std::string& out) {
  const std::string kind = std::filesystem::path(out).extension().string();
  if (kind == ".html") return reports::to_html(results);
  if (kind == ".xml") return reports::to_junit(results);
  if (kind == ".md") return reports::to_markdown(results);
  if (kind == ".sarif") return reports::to_sarif(results, TWINWALK_VERSION);
  throw Failure(
      fmt::format("-o: found `{}`; allowed: a name that ends in .html, .xml, .md or .sarif", out));
}

}  // namespace

int report(const std::vector<std::string>& inputs, const std::string& out) {
  reports::Results results;
  for (const std::string& path : inputs) {
    const std::string text = read_file(path);
    if (is_serial_log(text)) {
      judge_serial_log(text, path, results);
    } else if (const auto error = reports::read_results(text, path, results)) {
      throw Failure(*error);
    }
  }
  write_file(out, render(results, out));
  return kExitGood;
}

}  // namespace twinwalk::cli
