// AFL++'s custom-mutator library: it hands over a second input with each, so a quarter of the calls
// cross.

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

#include "fuzzers/mutator.h"
#include "harness/fuzzing/config.h"

namespace {

using twinwalk::fuzz::Config;
using twinwalk::fuzz::Mutator;
using twinwalk::fuzz::Rng;

struct State {
  State(Config of, unsigned seed) : config(std::move(of)), mutator(config), rng(seed) {}
  const Config config;
  Mutator mutator;
  Rng rng;
  std::vector<std::uint8_t> out;
};

}  // namespace

extern "C" {

void* afl_custom_init(void* afl, unsigned seed) {
  (void)afl;
  const char* name = std::getenv("TWINWALK_FUZZ_CONFIG");
  std::optional<Config> config = twinwalk::fuzz::find_config(name ? name : "all");
  return config ? new State(*std::move(config), seed) : nullptr;
}

std::size_t afl_custom_fuzz(void* data, std::uint8_t* bytes, std::size_t size, std::uint8_t** out,
                            std::uint8_t* other, std::size_t other_size, std::size_t max_size) {
  State& s = *static_cast<State*>(data);
  s.out.resize(max_size);
  const std::uint64_t seed = s.rng.next();
  std::size_t made = 0;
  if (other && other_size && s.rng.chance(1, 4)) {
    made = s.mutator.cross({bytes, size}, {other, other_size}, s.out, seed);
  } else {
    const std::size_t kept = size < max_size ? size : max_size;
    std::copy(bytes, bytes + kept, s.out.begin());
    made = s.mutator.mutate(s.out.data(), kept, max_size, seed);
  }
  *out = s.out.data();
  return made;
}

void afl_custom_deinit(void* data) { delete static_cast<State*>(data); }
}
