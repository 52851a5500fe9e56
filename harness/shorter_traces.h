#ifndef TWINWALK_HARNESS_SHORTER_TRACES_H_
#define TWINWALK_HARNESS_SHORTER_TRACES_H_

// Traces with fewer operations that may do what a given one does: what the minimiser tries when no
// single operation can go any more.

#include <cstddef>
#include <functional>

#include "harness/trace/op.h"

namespace twinwalk {

// Is given what is offered; true: no more are wanted.
using TakeTrace = std::function<bool(Trace)>;

// Each of these offers traces in a fixed order, and returns true if no more were wanted.

// Without `size` operations, wherever they stand: those that need each other, as what fills a table
// and what counts on its being full.
bool drop_together(const Trace& trace, std::size_t size, const TakeTrace& take);
// Without one operation, and with another one simplified.
bool drop_and_simplify(const Trace& trace, const TakeTrace& take);
// With some neighbours replaced by fewer that stand elsewhere in the trace, at the same or at
// another address: what counts is often how much is done, not by which operations.
bool exchange_neighbours(const Trace& trace, const TakeTrace& take);

// The trace without `count` operations from `first` on, and without what was expected of them.
Trace without(const Trace& trace, std::size_t first, std::size_t count);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_SHORTER_TRACES_H_
