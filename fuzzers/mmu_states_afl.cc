// AFL++ knows edges only: each state takes a place in its map as the compiler's edges do, by a
// guard of its own, and counts there after the trace.

#include <cstring>

#include "fuzzers/mmu_states.h"

extern "C" {
extern std::uint8_t* __afl_area_ptr;
void __sanitizer_cov_trace_pc_guard_init(std::uint32_t* start, std::uint32_t* stop);
}

namespace twinwalk::fuzz {
namespace {

std::uint8_t states[kStateCounters];
std::uint32_t guards[kStateCounters];

// Before main, while the run-time still lays out its map.
__attribute__((constructor)) void take_places() {
  __sanitizer_cov_trace_pc_guard_init(guards, guards + kStateCounters);
}

}  // namespace

std::uint8_t* mmu_states() { return states; }
void begin_states() { std::memset(states, 0, sizeof states); }
void end_states() {
  for (std::uint32_t i = 0; i < kStateCounters; ++i) {
    if (states[i]) __afl_area_ptr[guards[i]] = states[i];
  }
}

}  // namespace twinwalk::fuzz
