#ifndef TWINWALK_HARNESS_CLI_EXPLAIN_H_
#define TWINWALK_HARNESS_CLI_EXPLAIN_H_

#include <string>

#include "harness/cli/input.h"
#include "harness/cli/subjects.h"

namespace twinwalk::cli {

// `explain`: one trace, operation by operation: the guest's walk by the reference and what the
// subject left behind side by side, entries decoded; the rule that decides, with its citation; of a
// divergence what was got, what was allowed, and why. Always exit 0.
int explain(const std::string& path, const Reading& reading, const SubjectWords& words);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_EXPLAIN_H_
