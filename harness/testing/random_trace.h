#ifndef TWINWALK_HARNESS_TESTING_RANDOM_TRACE_H_
#define TWINWALK_HARNESS_TESTING_RANDOM_TRACE_H_

// Random traces over small pools of addresses, frames and tables, so that things collide. For soak
// tests; the fuzzers have a mutator of their own.

#include <cstdint>
#include <random>

#include "harness/trace/followed_registers.h"
#include "harness/trace/op.h"

namespace twinwalk {

struct RandomTraceOptions {
  unsigned operations = 64;
  bool machines = true;     // vary the machine line too
  bool host_events = true;  // memslots, notifier, dirty log, footprint
  bool events = false;      // SMM, INIT, CPUID, new vCPUs and the like
  bool modes = false;       // start in any paging mode, and change it on the way
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
  void modes(Machine& m);
  void begin(const Machine& machine);
  void say(Op op, Trace& out);
  void change_mode(Trace& out);
  // Registers as a vCPU has them that starts in the current one's mode.
  Registers usual() const;
  Mode mode() const { return registers_[vcpu_].mode(); }
  Op window();
  std::uint64_t gva();
  std::uint64_t gva_of_mode();
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
  Op event_op();
  Op cpuid_op();

  std::mt19937_64 random_;
  Machine machine_;
  FollowedRegisters registers_[kMaxVcpus];
  std::uint8_t vcpu_ = 0;  // whose operation comes next
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TESTING_RANDOM_TRACE_H_
