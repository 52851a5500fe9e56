#ifndef TWINWALK_KVM_RUNNER_KVM_SUBJECT_H_
#define TWINWALK_KVM_RUNNER_KVM_SUBJECT_H_

// Subject `kvm`: executes a program with the host kernel's KVM. Guest operations are done by the
// guest itself, host events by real memslot calls and real mappings.

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "harness/subject.h"
#include "kvm_runner/batch_rules.h"
#include "kvm_runner/fetch_lender.h"
#include "kvm_runner/host.h"
#include "kvm_runner/nested/nested_tables.h"
#include "kvm_runner/nested/svm_guests.h"
#include "kvm_runner/subjects.h"
#include "kvm_runner/trace_memory.h"
#include "kvm_runner/vm.h"
#include "kvm_runner/vm_pool.h"

namespace twinwalk::kvm {

class KvmSubject final : public VmSubject {
 public:
  // False and the reason without a usable /dev/kvm.
  bool open(std::string& why, Driving driving = Driving::kFaster);

  const SubjectInfo& info() const override { return info_; }
  void run(const Program& program, OutcomeStream& out) override;
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override;
  void keep_vms(bool keep) override { keeps_vms_ = keep; }
  void set_watcher(VmWatcher* watcher) override { watcher_ = watcher; }

  // Never kFaster: that is decided by open().
  Driving driving() const { return driving_; }
  void drive(Driving driving) { driving_ = driving; }
  // Runs a short program some times, each way.
  KvmPace measure_pace();
  // Since open().
  struct Driven {
    std::uint64_t batches = 0, batched = 0, alone = 0;  // steps
    std::uint64_t again = 0;  // programs that had to run again without batches
  };
  const Driven& driven() const { return driven_; }

 private:
  struct Half {  // the part of an access that lies in one page
    std::uint64_t gva = 0;
    unsigned size = 0;
    GuestWalk walk;
  };
  struct Halves {
    unsigned count = 0;
    std::array<Half, 2> half;
  };
  struct Candidate {  // where a store may land
    unsigned half = 0;
    std::uint64_t offset = 0, before = 0, after = 0;  // position in hva space; the word there
    bool shared = false;                              // another page has led there
  };
  struct Planned {  // a step of a batch
    std::size_t step = 0;
    bool calls = false;  // or it is the harness's alone
    Halves halves;
    std::vector<Candidate> candidates;
  };

  bool start(const Program& program, std::string& why);
  bool run_all(const Program& program, OutcomeStream& out);
  StubExit run_stub(unsigned vcpu, const StubCall& call);
  Machine own_machine() const;
  bool make_vm(const Layout& layout, const Registers& registers, std::string& why);
  void step(const Op& op, Outcome& out);
  void skip(Outcome& out, SkipReason reason);
  void stop(Outcome& out, Complaint complaint, const std::string& text);

  // Guest steps (kvm_subject.cc).
  void mov(const Op& op, Outcome& out);
  bool switches_long_mode(const Op& op) const;
  bool finds_own_a(const Op& op, const Registers& after) const;
  void write_register(const Op& op, Outcome& out);
  void set_registers(unsigned vcpu, const Registers& wanted, OutcomeKind refused, Outcome& out);
  void sregs(const Op& op, Outcome& out);
  void init(const Op& op, Outcome& out);
  void new_vcpu(const Op& op, Outcome& out);
  void get(const Op& op, Outcome& out);
  void invlpg(const Op& op, Outcome& out);
  void invpcid(const Op& op, Outcome& out);
  static constexpr std::uint64_t kNoWindow = ~std::uint64_t{0};
  std::uint64_t window_of(std::uint64_t gpa, bool crosses, const Registers& now,
                          bool reads = false);
  void guest_store(const Op& op, Outcome& out);
  bool can_store(const Op& op);
  StubCall store_call(const Op& op, std::uint64_t window) const;
  void conclude_store(const StubExit& exit, Outcome& out);
  static Stub read_stub(Reg reg);
  void conclude_get(const Op& op, const StubExit& exit, Outcome& out);
  bool settle(const StubExit& exit, Outcome& out);

  // Accesses (kvm_access.cc).
  void access(const Op& op, Outcome& out);
  void fetch(const Op& op, const Half& half, Outcome& out);
  Halves split(const Op& op) const;
  static bool lacks_eight_bytes(const Op& op, const Registers& now);
  StubCall access_call(const Op& op, const Halves& halves) const;
  void conclude_access(const Op& op, const Halves& halves, const std::vector<Candidate>& candidates,
                       const StubExit& exit, Outcome& out);
  SkipReason why_not_access(const Op& op, const Halves& halves) const;
  bool halves_differ(const Halves& halves) const;
  // Some table of the walk is in a read-only memslot.
  bool goes_by_read_only(const GuestWalk& walk) const;
  void collect_candidates(const Op& op, const Halves& halves, std::vector<Candidate>& candidates);
  static bool shows_store(const Op& op, const Halves& halves, const Candidate& candidate,
                          const Outcome& out);
  static bool holds_store(const Op& op, const Candidate& candidate);
  void note_landings(const Op& op, const Halves& halves, const std::vector<Candidate>& candidates,
                     Outcome& out);
  void note_paths(const Op& op, const Halves& halves, Outcome& out);
  void remember_landing(const Op& op, const Half& half);
  void remember_by_former_tables(const Half& half, Mode mode);

  // Batches (kvm_batch.cc).
  std::size_t run_batch(const Program& program, std::size_t first, OutcomeStream& out);
  void begin_batch();
  bool plan(const Op& op, std::size_t index);
  bool plan_root(unsigned vcpu, const Registers& r);
  bool plan_access(const Op& op, Planned& planned, Vm::BatchedCall& call);
  bool plan_store(const Op& op, Vm::BatchedCall& call);
  bool plan_words(Planned& planned, Vm::BatchedCall& call, const Registers& now);
  bool conclude(const Op& op, Planned& planned, const Vm::BatchedCall& call, const StubExit& exit,
                const std::uint64_t* words, Outcome& out);

  // Which way is faster (kvm_driving.cc).
  double microseconds_a_step(const Program& program, Driving driving);

  // Where the trace is a hypervisor (kvm_nested_steps.cc).
  bool nested() const { return guests_ != nullptr; }
  bool start_nested(const Program& program, std::string& why);
  void nested_step(const Op& op, Outcome& out);
  void vm_enter(const Op& op, Outcome& out);
  void hypervisor_store(const Op& op, Outcome& out);
  void invlpga(const Op& op, Outcome& out);
  bool leads_on(const Op& op) const;
  bool may_lend(const Half& half, unsigned vcpu) const;
  StubExit run_nested(unsigned vcpu, const StubCall& call);
  NestedRoot nested_root(unsigned vcpu) const;
  NestedWalk walk_to_root(const NestedRoot& root, const Registers& registers) const;
  bool plant_nested(const NestedRoot& root, const Registers& registers);
  bool plant_nested_root(const NestedRoot& root);
  GuestWalk walk_both(unsigned vcpu, std::uint64_t gva) const;

  // Host steps (kvm_host_steps.cc).
  void host_store(const Op& op, Outcome& out);
  void slot_add(const Op& op, Outcome& out);
  void slot_delete(const Op& op, Outcome& out);
  void slot_move(const Op& op, Outcome& out);
  void slot_flags(const Op& op, Outcome& out);
  void change_backing(const Op& op, Outcome& out);
  void change_host_page(const Op& op, Outcome& out);
  int apply_slot(std::uint64_t id, const Slot& slot);

  // The dirty log (kvm_dirty_log.cc).
  void dirty_get(const Op& op, Outcome& out);
  void dirty_clear(const Op& op, Outcome& out);
  bool lacks_log_kind() const;
  bool read_log(std::uint64_t id, std::vector<std::uint64_t>& bitmap);
  void keep_dirty(std::uint64_t id);
  void take_rings();

  Registers& registers(const Op& op) { return registers_[op.vcpu]; }
  bool plant_for(unsigned vcpu, const Registers& r);
  static bool hides_edits(const Op& op);
  bool never_walks(Mode mode, std::uint64_t root) const;
  GuestWalk walk_now(unsigned vcpu, std::uint64_t gva) const;
  bool directories_are_memory(std::uint64_t root) const;
  bool loaded_are_memory(unsigned vcpu) const;
  bool directories_can_be_loaded(std::uint64_t root) const;

  SubjectInfo info_;
  Host host_;
  TraceMemory memory_;
  ForetoldMemory foretold_{memory_};  // as it is, but while a batch is planned
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<SvmGuests> guests_;  // where the trace is a hypervisor
  VmPool pool_;
  bool keeps_vms_ = false;
  VmWatcher* watcher_ = nullptr;
  Machine machine_;
  std::array<Registers, kMaxVcpus> registers_;
  std::array<std::vector<std::uint64_t>, kMaxSlots>
      dirty_;                     // what is in the slot's log beside what KVM has
  std::vector<DirtyPage> taken_;  // from the rings
  OutcomeStream* stream_ = nullptr;
  bool stopped_ = false, image_valid_ = false;
  FetchLender lender_;
  struct FormerTable {  // lowest table on the way to linear addresses of which it serves as many
    std::uint64_t region, at;
    friend bool operator==(const FormerTable&, const FormerTable&) = default;
  };
  static constexpr std::size_t kMostTables = 64;
  std::vector<FormerTable> former_tables_;
  std::vector<Candidate> candidates_;

  Driving driving_ = Driving::kAlone;
  Driven driven_;
  std::chrono::duration<double, std::micro> steps_took_{};  // of the last program
  std::vector<Planned> planned_;
  std::vector<Vm::BatchedCall> calls_;
  std::vector<std::uint64_t> words_;
  std::vector<StubExit> exits_;
  bool batch_failed_ = false;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_KVM_SUBJECT_H_
