#ifndef TWINWALK_FUZZERS_POPULATION_H_
#define TWINWALK_FUZZERS_POPULATION_H_

// Inputs worth changing, for fuzzing without an engine: those that reached what none before them
// had. Workers share one; everything locks.

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "fuzzers/rng.h"
#include "harness/trace/op.h"

namespace twinwalk::fuzz {

// A state that a subject counts, and in which orders of magnitude it was met, a bit each.
struct ReachedState {
  std::uint16_t state = 0;
  std::uint8_t bits = 0;
};

class Population {
 public:
  // Traces to be tried before others, as they are.
  void add_seed(const Trace& trace);
  bool take_seed(Trace& out);

  // Notes what was reached; the number of bits that are new here. Keeps the trace if there are some
  // and it is `worth` changing: what diverges would mostly do so again.
  unsigned learn(const Trace& trace, bool worth, std::span<const ReachedState> reached);
  // One to be changed; false if there is none.
  bool pick(Rng& rng, Trace& out) const;

  std::size_t size() const;
  std::size_t states() const;  // that were reached, however often

 private:
  mutable std::mutex mutex_;
  std::vector<Trace> seeds_;  // from the back
  std::vector<Trace> kept_;   // bounded by what can be new
  std::vector<std::uint8_t> known_ = std::vector<std::uint8_t>(std::size_t{1} << 16);
  std::size_t states_ = 0;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_POPULATION_H_
