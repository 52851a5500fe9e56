#ifndef TWINWALK_HARNESS_TESTING_RANDOM_TRACE_H_
#define TWINWALK_HARNESS_TESTING_RANDOM_TRACE_H_

// Random traces over small pools of addresses, frames and tables, so that things collide. For soak
// tests; the fuzzers have a mutator of their own.

#include <cstdint>
#include <random>

#include "harness/trace/op.h"

namespace twinwalk {

struct RandomTraceOptions {
  unsigned operations = 64;
  bool machines = true;     // vary the machine line too
  bool host_events = true;  // memslots, notifier, dirty log, footprint
};

class RandomTrace {
 public:
  explicit RandomTrace(std::uint64_t seed) : random_(seed) {}
  // Replaces `out`. The same seed gives the same sequence of traces.
  void next(const RandomTraceOptions& options, Trace& out);

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  template <std::size_t N>
  std::uint64_t pick(const std::uint64_t (&pool)[N]) {
    return pool[below(N)];
  }
  void machine(Machine& m);
  std::uint64_t gva();
  std::uint64_t gpa();
  std::uint64_t table();
  std::uint64_t entry_bits();
  std::uint64_t entry();
  Op guest_op();
  Op map();
  Op access();
  Op table_store();
  Op move_register();
  Op invalidate_page();
  Op host_op();
  Op slot_op();

  std::mt19937_64 random_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TESTING_RANDOM_TRACE_H_
