// libFuzzer's hooks for the mutator.

#include "fuzzers/mutator.h"
#include "fuzzers/session.h"

namespace {

twinwalk::fuzz::Mutator& mutator() {
  static twinwalk::fuzz::Mutator one(twinwalk::fuzz::config_from_environment());
  return one;
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  return mutator().mutate(data, size, max_size, seed);
}

extern "C" std::size_t LLVMFuzzerCustomCrossOver(const std::uint8_t* a, std::size_t a_size,
                                                 const std::uint8_t* b, std::size_t b_size,
                                                 std::uint8_t* out, std::size_t max_size,
                                                 unsigned seed) {
  return mutator().cross({a, a_size}, {b, b_size}, {out, max_size}, seed);
}
