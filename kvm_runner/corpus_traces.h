#ifndef TWINWALK_KVM_RUNNER_CORPUS_TRACES_H_
#define TWINWALK_KVM_RUNNER_CORPUS_TRACES_H_

// corpus/seed and corpus/regress as they were when the program was built, so that a conformance run
// needs no file beside it.

#include <string>
#include <vector>

#include "harness/trace/op.h"

namespace twinwalk {

struct CorpusTrace {
  std::string folder, name;  // "seed", "ept-execute-only"
  Trace trace;
};
// By folder and name.
std::vector<CorpusTrace> corpus_traces();

}  // namespace twinwalk

#endif  // TWINWALK_KVM_RUNNER_CORPUS_TRACES_H_
