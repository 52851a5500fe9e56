#ifndef TWINWALK_HARNESS_CLI_MINIMISE_VERB_H_
#define TWINWALK_HARNESS_CLI_MINIMISE_VERB_H_

#include <string>

#include "harness/cli/subjects.h"

namespace twinwalk::cli {

// `minimise`: writes to `out` ("-": standard output) the smallest trace found that shows the
// divergence class that `path` shows first. Exit 0; exit 2 if `path` does not diverge there.
int minimise_trace(const std::string& path, const SubjectWords& words, const std::string& out);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_MINIMISE_VERB_H_
