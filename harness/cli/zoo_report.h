#ifndef TWINWALK_HARNESS_CLI_ZOO_REPORT_H_
#define TWINWALK_HARNESS_CLI_ZOO_REPORT_H_

#include <string>

#include "harness/fuzzing/output.h"

namespace twinwalk::cli {

// Writes report.html, summary.md and junit.xml of the zoo's result lines. Returns "" or why not.
std::string write_zoo_report(const std::string& lines, const fuzz::Output& output);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_ZOO_REPORT_H_
