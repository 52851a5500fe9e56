#ifndef TWINWALK_HARNESS_THREADS_RUN_H_
#define TWINWALK_HARNESS_THREADS_RUN_H_

// A program on the core with a thread for each vCPU and one for the host, all at once. What each
// step gives depends on who comes first, so that no reference judges it. What must hold however
// they come:
//
//   no data race             ThreadSanitizer
//   nothing freed is used    frames and tables: memory.h, in the moment of use; objects: the heap's
//   no panic, an end         the core's assertions; a step that is tried for ever
//   no store is lost         dirty_watch.h
//   the invariants           an audit when all are done
//   nothing leaks            after the VM is destroyed

#include <cstdint>
#include <string>

#include "harness/core/complaints.h"
#include "harness/core/slot_map.h"
#include "harness/threads/host.h"
#include "harness/trace/program.h"

namespace twinwalk {

struct ThreadedRunCounts {
  std::uint64_t steps = 0, accesses = 0, completed = 0;
};

class ThreadedRun {
 public:
  explicit ThreadedRun(ThreadedHost::OnPanic on_panic) : host_(on_panic) {}

  // Each thread carries out its part of the program, in its order, `rounds` times. `seed`: of the
  // little pauses at the core's yield points. False: `why` says what was wrong.
  bool run(const Program& program, unsigned rounds, std::uint64_t seed, std::string& why);
  // Why no such machine can be run; null if it can.
  static const char* why_not(const Machine& machine);

  const ThreadedRunCounts& counts() const { return counts_; }  // of all runs

 private:
  struct Worker;

  void work(Worker& worker);
  void host_step(Worker& worker, const Op& op, Outcome& out, OutcomeStream& stream);
  void store_by_host(const Op& op);
  void collect_log(Worker& worker, unsigned slot);
  void look_at_log(const Outcome& out, const OutcomeStream& stream);
  bool judge(Worker& worker, std::string& why);

  ThreadedHost host_;
  CoreVm core_;
  SlotMaps slots_;
  std::uint64_t logs_since_[kMaxSlots] = {};  // of address space 0: when the slot last changed
  ThreadedRunCounts counts_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_THREADS_RUN_H_
