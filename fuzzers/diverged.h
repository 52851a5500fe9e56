#ifndef TWINWALK_FUZZERS_DIVERGED_H_
#define TWINWALK_FUZZERS_DIVERGED_H_

#include "harness/trace/verdict.h"

namespace twinwalk::fuzz {

// Aborts in a function that is named after the class, so that fuzzing services, which tell crashes
// apart by their stacks, keep classes apart. Only builds with TWINWALK_ABORT_ON_FINDING call it.
[[noreturn]] void abort_in_frame_of(DivergenceClass divergence);

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_DIVERGED_H_
