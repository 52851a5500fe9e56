#ifndef TWINWALK_HARNESS_CLI_MINIMISE_VERB_H_
#define TWINWALK_HARNESS_CLI_MINIMISE_VERB_H_

#include <string>

#include "harness/cli/input.h"
#include "harness/cli/subjects.h"
#include "harness/trace/verdict.h"

namespace twinwalk::cli {

struct Smallest {
  Trace trace;
  DivergenceClass divergence;
};
// The smallest trace found that shows the divergence class that `named` shows first. Throws Failure
// if it does not diverge on the subject.
Smallest smallest_trace(const NamedTrace& named, const SubjectWords& words);

// `minimise`: writes it to `out` ("-": standard output). Exit 0; exit 2 if `path` does not diverge
// there.
int minimise_trace(const std::string& path, const Reading& reading, const SubjectWords& words,
                   const std::string& out);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_MINIMISE_VERB_H_
