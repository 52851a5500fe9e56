#include "harness/cli/zoo_report.h"

#include <string_view>

#include "harness/fuzzing/atomic_file.h"
#include "reports/ci_formats.h"
#include "reports/html.h"
#include "reports/results.h"

namespace twinwalk::cli {

std::string write_zoo_report(const std::string& lines, const fuzz::Output& output) {
  reports::Results results;
  if (const auto error = reports::read_results(lines, "zoo.jsonl", results)) return *error;
  const auto write = [](const std::string& path, const std::string& text) {
    return fuzz::write_atomically(path, std::string_view(text));
  };
  std::string why = write(output.report(), reports::to_html(results));
  if (why.empty()) why = write(output.root + "/summary.md", reports::to_markdown(results));
  if (why.empty()) why = write(output.junit(), reports::to_junit(results));
  return why;
}

}  // namespace twinwalk::cli
