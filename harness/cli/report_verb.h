#ifndef TWINWALK_HARNESS_CLI_REPORT_VERB_H_
#define TWINWALK_HARNESS_CLI_REPORT_VERB_H_

#include <string>
#include <vector>

namespace twinwalk::cli {

// `report`: renders files of result lines. The end of `out` says as what: .html, .xml (JUnit), .md,
// .sarif.
int report(const std::vector<std::string>& inputs, const std::string& out);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_REPORT_VERB_H_
