#ifndef TWINWALK_REPORTS_CI_FORMATS_H_
#define TWINWALK_REPORTS_CI_FORMATS_H_

// Reports for other programs: CI servers, code hosts, chat.

#include <string>
#include <string_view>

#include "reports/fuzz_report.h"
#include "reports/results.h"

namespace twinwalk::reports {

// JUnit XML. Fuzz: one test case that passes if there is no new divergence, and one that fails for
// each new finding. Results: one test case a line; `diverge`, `fail`, an undetected bug and a
// missed target fail, `skip` is skipped.
std::string to_junit(const FuzzReport& report);
std::string to_junit(const Results& results);

// Markdown for a summary of a CI job.
std::string to_markdown(const FuzzReport& report);
std::string to_markdown(const Results& results);

// SARIF 2.1.0: a result for each new finding, or for each line that diverges. `version` is the
// tool's.
std::string to_sarif(const FuzzReport& report, std::string_view version);
std::string to_sarif(const Results& results, std::string_view version);

}  // namespace twinwalk::reports

#endif  // TWINWALK_REPORTS_CI_FORMATS_H_
