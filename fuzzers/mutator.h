#ifndef TWINWALK_FUZZERS_MUTATOR_H_
#define TWINWALK_FUZZERS_MUTATOR_H_

// The one structure-aware mutator, for libFuzzer and AFL++ alike. It works on traces:
// bytes are decoded, the trace is changed, and encoded again.
//
// Contract
//   total          any input bytes, of any length, are accepted
//   deterministic  the result depends on the inputs, the seed and the configuration only: a Mutator
//   has no memory bounded        a result has at most kMaxFuzzOps operations and at most `max_size`
//   bytes; max_size >= kMinBytes
//                  always suffices for one
//   legal          decode(result) gives the trace that was made, and its machine is one of the
//   configuration not empty      a result has at least one operation, provided that max_size >=
//   kMinBytes
// Nothing is allocated once warm.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fuzzers/rng.h"
#include "fuzzers/survey.h"
#include "harness/fuzzing/config.h"
#include "harness/trace/op.h"

namespace twinwalk::fuzz {

inline constexpr std::size_t kMinBytes = 128;

class Mutator {
 public:
  explicit Mutator(const Config& config) : config_(config) {}

  // Traces. `most` (1..kMaxFuzzOps) bounds the operations of the result.
  void generate(Rng& rng, std::size_t most, Trace& out);
  void mutate(Rng& rng, std::size_t most, Trace& trace);
  void cross(Rng& rng, std::size_t most, const Trace& a, const Trace& b, Trace& out);

  // Bytes, as the engines call it: in place, and into `out`. Return the size of the result.
  std::size_t mutate(std::uint8_t* data, std::size_t size, std::size_t max_size,
                     std::uint64_t seed);
  std::size_t cross(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b,
                    std::span<std::uint8_t> out, std::uint64_t seed);

 private:
  void change_once(Rng& rng, std::size_t most, Trace& trace);
  void insert_idiom(Rng& rng, Trace& trace, std::size_t at);
  void insert_any(Rng& rng, Trace& trace);
  void survey_prefix(const Trace& trace, std::size_t ops);
  // Writes the trace to `out`, without its last operations where it would not fit.
  std::size_t put(Trace& trace, std::span<std::uint8_t> out);

  const Config& config_;
  Survey survey_;
  std::vector<Op> fragment_;
  Trace first_, second_, result_;
  std::vector<std::uint8_t> bytes_;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_MUTATOR_H_
