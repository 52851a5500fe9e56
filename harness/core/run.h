#ifndef TWINWALK_HARNESS_CORE_RUN_H_
#define TWINWALK_HARNESS_CORE_RUN_H_

// A run of a program on the core: start, steps with an audit after each, tear-down, and what a
// panic leaves of it. A subject derives from it and supplies the host (core_host.h).

#include <cstdint>

#include "harness/core/complaints.h"
#include "harness/core/core_host.h"
#include "harness/core/core_vm.h"
#include "harness/core/interleaver.h"
#include "harness/core/readers.h"
#include "harness/core/slot_map.h"
#include "harness/core/steps.h"
#include "harness/core/trap.h"
#include "harness/subject.h"

namespace twinwalk {

struct CoreRunOptions {
  bool audit = true;  // check the core's invariants after every step in which it ran
  unsigned refault_bound = 16;
  std::uint8_t* state_counters = nullptr;  // see Vm::set_state_counters
  StepWatch* watch = nullptr;
};

// The core calls its host far more often than anyone calls a subject: the host comes first, where
// a call needs no adjustment.
class CoreRun : protected CoreHost, public Subject, private Interleaver::Runner {
 public:
  const SubjectInfo& info() const final { return info_; }
  void run(const Program& program, OutcomeStream& out) final;

 protected:
  explicit CoreRun(CoreRunOptions options)
      : options_(options),
        steps_(core_, slots_, *this, complaints_, options.refault_bound),
        interleaver_(*this) {}

  // The host as a trace finds it. Why no step can be executed on this machine, kNone if some can.
  virtual SkipReason prepare(const Machine& machine) = 0;
  // The VM is there, and no step has been executed.
  virtual void started(mmu::Vm& vm) { (void)vm; }
  virtual void before_tear_down() {}
  // After every run that began; `trapped`: it ended in a panic of the core.
  virtual void after_run(bool trapped) { (void)trapped; }
  virtual std::uint64_t live_tables() const = 0;
  virtual std::uint64_t live_objects() const = 0;
  // What the host's memory has to say about the step.
  virtual void add_complaints() {}

  // Why no host of the core executes that step as things are now.
  SkipReason why_not_core(const Op& op) const {
    return why_no_core(op, machine_, machine_now(), core_.registers(op.vcpu % kMaxVcpus));
  }
  const Registers& registers_of(const Op& op) const { return core_.registers(op.vcpu); }
  // The address space of that vCPU, and the capabilities of its processor, as they are now.
  unsigned space_of(const Op& op) const { return core_.in_smm(op.vcpu) ? 1 : 0; }
  const Machine& machine_now() const { return core_.machine(); }

  // mmu::Platform
  mmu::u32 context() const final { return interleaver_.context(); }
  void lock(mmu::LockId id) final { interleaver_.lock(id); }
  void unlock(mmu::LockId id) final { interleaver_.unlock(id); }
  void lock_shared(mmu::LockId id) final { interleaver_.lock_shared(id); }
  void unlock_shared(mmu::LockId id) final { interleaver_.unlock_shared(id); }
  void begin_using_slots() final { interleaver_.begin_section(); }
  void end_using_slots() final { interleaver_.end_section(); }
  void wait_for_users_of_slots() final { interleaver_.wait_for_sections(); }
  void begin_reading() final { readers_.begin(interleaver_.context()); }
  void end_reading() final;
  void free_table_after_readers(mmu::Hpa hpa) final;
  void free_object_after_readers(void* object, mmu::u64 size) final;
  void yield(mmu::YieldPoint point, mmu::u32) final { interleaver_.reached(point); }
  [[noreturn]] void panic(const char* why) final;

  SubjectInfo info_;
  Machine machine_;  // of the trace
  SlotMaps slots_;
  Complaints complaints_;
  CoreSteps& steps() { return steps_; }
  // For a host whose processor executes more than accesses.
  mmu::Vcpu& vcpu_of(const Op& op) { return core_.vcpu(op.vcpu); }

 private:
  void start();
  void run_steps(const Program& program, OutcomeStream& out);
  void tear_down(OutcomeStream& out);
  void stop(OutcomeStream& out);
  void collect(OutcomeStream& out, Outcome& outcome);
  std::size_t run_group();
  void begin_overlaps();
  void note_begin(std::size_t step) {
    out_->begun[step] = static_cast<std::uint32_t>(out_->ended.size());
  }
  void note_end(std::size_t step) { out_->ended.push_back(static_cast<std::uint32_t>(step)); }

  // CoreHost
  bool let_others_go_on() final { return interleaver_.pause(); }
  void give_back(const Readers::Freed& freed);
  // Interleaver::Runner
  void run_inside(std::size_t step) override;
  [[noreturn]] void broken(const char* why) override { panic(why); }
  [[noreturn]] void left_for_good() override { trap_.spring(); }

  const CoreRunOptions options_;
  CoreVm core_;
  CoreSteps steps_;
  Trap trap_;
  Interleaver interleaver_;
  Readers readers_;
  const Program* program_ = nullptr;
  OutcomeStream* out_ = nullptr;
  bool overlaps_ = false;    // steps have overlapped
  std::size_t current_ = 0;  // step; of those that run inside another, the outer one
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_RUN_H_
