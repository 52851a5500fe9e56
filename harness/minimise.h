#ifndef TWINWALK_HARNESS_MINIMISE_H_
#define TWINWALK_HARNESS_MINIMISE_H_

// The smallest trace that still shows a divergence: delta debugging over operations, then over
// fields and the machine; then, of what is left, several operations traded for fewer.

#include <cstdint>
#include <functional>

#include "harness/checker.h"
#include "harness/trace/op.h"

namespace twinwalk {

struct MinimiseOptions {
  std::uint64_t max_runs = 20'000;
  std::uint64_t max_trades = 10'000;  // of these, at most so many to trade operations for fewer
  std::function<bool()> stop;  // asked between runs; true ends the search with the best so far
};

struct Minimised {
  bool reproduced = false;  // false: the trace does not show the class; `trace` is as given
  Trace trace;  // comments, expectations and `known` lines are gone, except where the class is
                // kExpectation
  std::uint64_t runs = 0;
};

// True if the trace still shows what is searched for.
using TraceTest = std::function<bool(const Trace&)>;

// Precondition: `shows` is deterministic. The result is too.
Minimised minimise(const Trace& trace, const TraceTest& shows, const MinimiseOptions& options = {});

// By a checker: the first divergence of the result has the class `wanted` (kNone: the class that
// `trace` shows first).
Minimised minimise(Checker& checker, const Trace& trace,
                   DivergenceClass wanted = DivergenceClass::kNone,
                   const MinimiseOptions& options = {});

// True if `times` runs of the trace give the same divergence at the same step with the same
// outcomes.
bool replays(Checker& checker, const Trace& trace, unsigned times = 10);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_MINIMISE_H_
