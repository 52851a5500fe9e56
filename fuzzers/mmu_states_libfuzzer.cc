// libFuzzer reads and clears every byte of this section around each input by itself.

#include "fuzzers/mmu_states.h"

namespace twinwalk::fuzz {
namespace {

__attribute__((section("__libfuzzer_extra_counters"), used)) std::uint8_t states[kStateCounters];

}  // namespace

std::uint8_t* mmu_states() { return states; }
void begin_states() {}
void end_states() {}

}  // namespace twinwalk::fuzz
