#ifndef TWINWALK_HARNESS_BENCH_MEASURE_H_
#define TWINWALK_HARNESS_BENCH_MEASURE_H_

// Time and memory of this process, for figures that hold on shared and noisy machines.

#include <algorithm>
#include <cstdint>
#include <limits>

namespace twinwalk::bench {

// CPU time of this process so far, nanoseconds.
std::uint64_t cpu_now_ns();
// Wall clock, nanoseconds from an arbitrary start.
std::uint64_t wall_now_ns();
// Resident set of this process, KiB; 0 if the system does not tell.
std::uint64_t resident_kib();

// Keeps the compiler from dropping a computation whose result nobody reads.
template <class T>
inline void keep(const T& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

// Nanoseconds of CPU time for one of `count` units of work that `body()` does, the best of
// `repeats`: noise only adds.
template <class Body>
double best_ns(unsigned repeats, std::uint64_t count, Body&& body) {
  double best = std::numeric_limits<double>::infinity();
  for (unsigned i = 0; i < repeats; ++i) {
    const std::uint64_t start = cpu_now_ns();
    body();
    best = std::min(best, static_cast<double>(cpu_now_ns() - start) / static_cast<double>(count));
  }
  return best;
}

// Two bodies by turns, so that what the machine does meanwhile hits both: the best of each.
struct Pair {
  double value_ns, limit_ns;
};
template <class Value, class Limit>
Pair best_pair(unsigned repeats, std::uint64_t count, Value&& value, Limit&& limit) {
  Pair best{std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  for (unsigned i = 0; i < repeats; ++i) {
    best.value_ns = std::min(best.value_ns, best_ns(1, count, value));
    best.limit_ns = std::min(best.limit_ns, best_ns(1, count, limit));
  }
  return best;
}

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_MEASURE_H_
