#ifndef TWINWALK_FUZZERS_RNG_H_
#define TWINWALK_FUZZERS_RNG_H_

// The only source of chance in the generator: SplitMix64 from a seed that the engine gives, so that
// a mutation can be repeated.

#include <cstddef>
#include <cstdint>

namespace twinwalk::fuzz {

class Rng {
 public:
  explicit constexpr Rng(std::uint64_t seed) : state_(seed) {}

  constexpr std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E37'79B9'7F4A'7C15u);
    z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9u;
    z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EBu;
    return z ^ (z >> 31);
  }
  // In [0, n). Precondition: 0 < n < 2^32.
  constexpr std::uint32_t below(std::uint64_t n) {
    return static_cast<std::uint32_t>(((next() >> 32) * n) >> 32);
  }
  // True `n` times out of `of`.
  constexpr bool chance(std::uint32_t n, std::uint32_t of) { return below(of) < n; }
  constexpr bool flip() { return (next() >> 63) != 0; }

  template <class T, std::size_t N>
  constexpr const T& pick(const T (&from)[N]) {
    return from[below(N)];
  }

 private:
  std::uint64_t state_;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_RNG_H_
