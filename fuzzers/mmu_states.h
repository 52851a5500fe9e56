#ifndef TWINWALK_FUZZERS_MMU_STATES_H_
#define TWINWALK_FUZZERS_MMU_STATES_H_

// MMU states reached, as feedback for the engine: one counter a state beside the edges that the
// compiler counts. How the engine takes them is its file's matter (mmu_states_libfuzzer.cc,
// mmu_states_afl.cc).

#include <cstdint>

#include "harness/fuzzing/worker_stats.h"

namespace twinwalk::fuzz {

// kStateCounters bytes that the core counts up.
std::uint8_t* mmu_states();
// Before and after each trace.
void begin_states();
void end_states();

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_MMU_STATES_H_
