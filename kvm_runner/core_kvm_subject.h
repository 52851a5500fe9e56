#ifndef TWINWALK_KVM_RUNNER_CORE_KVM_SUBJECT_H_
#define TWINWALK_KVM_RUNNER_CORE_KVM_SUBJECT_H_

// Subject `core-kvm`: mmu_core's shadow tables, walked by a processor. The VM's guest-physical
// space is the core's host-physical space, the vCPU's CR3 is the core's shadow root, and each #PF
// in the VM is an exit to the core.
//
//   trace step ──► core ──► shadow tables in CoreArena ──► vCPU runs the access ──► #PF ──►
//   Vcpu::handle_fault
//
// Flush requests are carried out in full whatever they ask for: the vCPU's own flush, and a zap of
// what KVM derived from the tables (a KVM that shadows them does not see them change).

#include <csetjmp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "harness/subject.h"
#include "kvm_runner/core_arena.h"
#include "kvm_runner/fetch_lender.h"
#include "kvm_runner/guest_memory.h"
#include "kvm_runner/host.h"
#include "kvm_runner/vm.h"
#include "mmu_core/mmu.h"

namespace twinwalk::kvm {

class CoreKvmSubject final : public Subject,
                             private mmu::Platform,
                             private mmu::AuditSink,
                             private WordReader {
 public:
  CoreKvmSubject() = default;
  ~CoreKvmSubject() override;

  // False and the reason without a usable /dev/kvm.
  bool open(std::string& why);

  const SubjectInfo& info() const override { return info_; }
  void run(const Program& program, OutcomeStream& out) override;
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    return image_valid_ && read_word(gpa, word);
  }

 private:
  // mmu::Platform
  bool alloc_table(mmu::Hpa& hpa, mmu::u64*& ptr) override;
  void free_table(mmu::Hpa hpa) override;
  void* alloc_object(mmu::u64 size) override;
  void free_object(void* object, mmu::u64 size) override;
  mmu::u64 read_guest(mmu::Hpa hpa, unsigned size) override;
  void write_guest(mmu::Hpa hpa, unsigned size, mmu::u64 value) override;
  bool cmpxchg_guest(mmu::Hpa hpa, unsigned size, mmu::u64 expected, mmu::u64 desired) override;
  mmu::FrameLookup lookup_frame(mmu::Hva hva, bool write) override;
  void flush_tlb(const mmu::FlushRequest& request) override;
  void lock(mmu::LockId) override {}
  void unlock(mmu::LockId) override {}
  [[noreturn]] void panic(const char* why) override;
  // mmu::AuditSink
  void on_finding(const mmu::AuditFinding& finding) override;
  // WordReader
  bool read_word(std::uint64_t gpa, std::uint64_t& word) const override;

  bool start(const Program& program, std::string& why);
  void run_steps(const Program& program, OutcomeStream& out);
  void finish(OutcomeStream& out);
  void abandon(OutcomeStream& out);
  void complain(Complaint complaint, const char* text);
  void collect(OutcomeStream& out, Outcome& outcome);
  void skip(Outcome& out, SkipReason reason);

  void step(const Op& op, Outcome& out, OutcomeStream& stream);
  void mov(const Op& op, Outcome& out);
  bool write_register(const Op& op);
  void guest_store(const Op& op, Outcome& out);
  void host_store(const Op& op, Outcome& out);

  // Accesses (core_kvm_access.cc).
  void access(const Op& op, Outcome& out);
  bool try_access(const Op& op, Outcome& out);
  StubExit run_stub(const Op& op, const mmu::EntryState& entry);
  bool resolve(const Op& op, const StubExit& exit, Outcome& out);
  bool handle_fault(const Op& op, const StubExit& exit, Outcome& out);
  bool emulate(const Op& op, Outcome& out);
  void finish_native(const Op& op, const StubExit& exit, Outcome& out);
  bool is_out_of_reach(const Op& op) const;
  void finish_fetch(const Op& op, const StubExit& exit, Outcome& out);
  std::uint64_t landing_of(std::uint64_t gva, const GuestWalk& fresh);
  std::uint64_t frame_word(std::uint64_t hpa);
  void collect_candidates(const Op& op);
  void note_landings(Outcome& out);
  bool choose_fetch_words(const Op& op, const GuestWalk& fresh);

  // Host steps (core_kvm_host_steps.cc).
  void change_slot(const Op& op, Outcome& out);
  void change_backing(const Op& op, Outcome& out);
  void dirty_get(const Op& op, Outcome& out, OutcomeStream& stream);
  void break_share(std::uint64_t offset);

  struct Candidate {  // where a store may land
    unsigned part = 0;
    std::uint64_t hpa = 0, before = 0;  // the word there
  };

  mmu::Vcpu& vcpu(const Op& op) { return core_->vcpu(op.vcpu); }

  SubjectInfo info_;
  Host host_;
  CoreArena arena_;
  SlotTable slots_;
  std::unique_ptr<Vm> vm_;
  void* storage_ = nullptr;
  mmu::Vm* core_ = nullptr;
  Machine machine_;
  Registers registers_[kMaxVcpus];
  std::uint64_t loaded_cr3_[kMaxVcpus] = {};
  std::uint16_t loaded_pcid_[kMaxVcpus] = {};
  bool image_valid_ = false;
  std::size_t current_ = 0;
  std::jmp_buf panicked_;
  Complaint complaint_ = Complaint::kNone;
  std::string complaint_text_;
  std::vector<std::uint64_t> bitmap_;
  FetchLender lender_;
  std::vector<Candidate> candidates_;
  std::string why_;  // why the last program was not started
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_CORE_KVM_SUBJECT_H_
