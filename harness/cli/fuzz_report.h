#ifndef TWINWALK_HARNESS_CLI_FUZZ_REPORT_H_
#define TWINWALK_HARNESS_CLI_FUZZ_REPORT_H_

#include <string>

#include "harness/fuzzing/output.h"
#include "harness/fuzzing/summary.h"

namespace twinwalk::cli {

// Writes report.html and junit.xml of a fuzz run: its figures, and each finding as it stands on
// disk, with the reference's walk and the core's side by side. Returns "" or why not.
std::string write_fuzz_report(const fuzz::RunRecord& run, const fuzz::Output& output);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_FUZZ_REPORT_H_
