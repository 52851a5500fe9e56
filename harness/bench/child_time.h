#ifndef TWINWALK_HARNESS_BENCH_CHILD_TIME_H_
#define TWINWALK_HARNESS_BENCH_CHILD_TIME_H_

#include <optional>
#include <string>
#include <vector>

namespace twinwalk::bench {

// Runs a program to its end, its output dropped. Nanoseconds of CPU time that it took; nothing if
// it could not be run or did not end with 0.
std::optional<double> cpu_ns_of(const std::vector<std::string>& words);

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_CHILD_TIME_H_
