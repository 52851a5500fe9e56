#ifndef TWINWALK_HARNESS_TESTING_RANDOM_NESTED_TRACE_H_
#define TWINWALK_HARNESS_TESTING_RANDOM_NESTED_TRACE_H_

// Random traces of bare machines that are hypervisors: small tables in both dimensions, few
// addresses, so that a guest mostly runs and everything collides.

#include <cstdint>
#include <random>

#include "harness/trace/op.h"

namespace twinwalk {

class RandomNestedTrace {
 public:
  explicit RandomNestedTrace(std::uint64_t seed) : random_(seed) {}
  // Replaces `out`. The same seed gives the same sequence of traces.
  void next(Nesting nesting, unsigned operations, Trace& out);

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  template <std::size_t N>
  std::uint64_t pick(const std::uint64_t (&pool)[N]) {
    return pool[below(N)];
  }
  void machine(Nesting nesting);
  void say(const Op& op, Trace& out);
  Op any();
  Op access();
  Op map();
  Op nested_map();
  Op entry_store();
  Op enter();
  Op invalidate();
  Op move_register();
  std::uint64_t gva();
  std::uint64_t data();
  std::uint64_t nested_root();
  std::uint64_t pointer();

  std::mt19937_64 random_;
  Machine machine_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TESTING_RANDOM_NESTED_TRACE_H_
