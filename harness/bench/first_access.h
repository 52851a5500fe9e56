#ifndef TWINWALK_HARNESS_BENCH_FIRST_ACCESS_H_
#define TWINWALK_HARNESS_BENCH_FIRST_ACCESS_H_

#include "harness/trace/machine.h"

namespace twinwalk::bench {

// What the first read of a page costs beyond the second, in ns: the fault that it meets. `pages` of
// 4K, mapped beforehand with A and D set; the best of `repeats`.
double first_access_ns(const Machine& machine, unsigned pages, unsigned repeats);

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_FIRST_ACCESS_H_
