#ifndef TWINWALK_HARNESS_BENCH_TYPICAL_TRACE_H_
#define TWINWALK_HARNESS_BENCH_TYPICAL_TRACE_H_

// The trace by which throughput is measured, in process and in the fuzz targets.

#include "harness/trace/op.h"

namespace twinwalk::bench {

// 64 operations as the fuzzer makes them: pages mapped, touched, edited, flushed, under two loads
// of the root. Traces of different seeds differ in their addresses only.
Trace typical_trace(unsigned seed);
inline constexpr unsigned kTypicalTraces = 16;  // how many of them a measurement takes by turns

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_TYPICAL_TRACE_H_
