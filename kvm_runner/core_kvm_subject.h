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

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "harness/core/allocation_failures.h"
#include "harness/core/run.h"
#include "kvm_runner/core_arena.h"
#include "kvm_runner/fetch_lender.h"
#include "kvm_runner/guest_memory.h"
#include "kvm_runner/host.h"
#include "kvm_runner/vm.h"

namespace twinwalk::kvm {

class CoreKvmSubject final : public CoreRun {
 public:
  CoreKvmSubject() : CoreRun({}) {}

  // False and the reason without a usable /dev/kvm.
  bool open(std::string& why);

  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    return image_valid_ && Memory(*this, 0).read_word(gpa, word);
  }

 private:
  // CoreRun
  SkipReason prepare(const Machine& machine) override;
  bool open_vm(const Machine& machine);
  bool has_host(std::uint32_t feature) const { return (host_.features() & feature) == feature; }
  void after_run(bool trapped) override;
  std::uint64_t live_tables() const override { return arena_.live_tables(); }
  std::uint64_t live_objects() const override { return arena_.live_objects(); }

  // CoreHost
  SkipReason why_not(const Op& op) const override;
  Attempt attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) override;
  void finish_access(const Op& op, Outcome& out) override;
  bool backs(std::uint64_t hva, std::uint64_t pages) const override;
  bool is_protected(std::uint64_t hva) const override;
  void break_cow(std::uint64_t hva) override;
  bool poke(std::uint64_t hva, unsigned size, std::uint64_t value) override;
  void invalidate(std::uint64_t hva, std::uint64_t pages) override;
  void remap(std::uint64_t hva, std::uint64_t pages) override;
  void protect(std::uint64_t hva, std::uint64_t pages, bool writable) override;
  void fail_allocations(std::uint64_t after, std::uint64_t count) override {
    failures_.ask(after, count);
  }
  bool memory_comes_back() override { return failures_.come_back(); }

  // mmu::Platform
  bool alloc_table(mmu::TableReach reach, mmu::Hpa& hpa, mmu::u64*& ptr) override;
  void free_table(mmu::Hpa hpa) override;
  void* alloc_object(mmu::u64 size) override;
  void free_object(void* object, mmu::u64 size) override;
  mmu::u64 read_guest(mmu::Hpa hpa, unsigned size) override;
  void write_guest(mmu::Hpa hpa, unsigned size, mmu::u64 value) override;
  bool cmpxchg_guest(mmu::Hpa hpa, unsigned size, mmu::u64 expected, mmu::u64 desired) override;
  void set_descriptor(mmu::Hpa table, void* descriptor) override {
    arena_.set_descriptor(table.raw, descriptor);
  }
  void* descriptor_of(mmu::Hpa table) const override { return arena_.descriptor_of(table.raw); }
  mmu::FrameLookup lookup_frame(mmu::Hva hva, bool write) override;
  void flush_tlb(const mmu::FlushRequest& request) override;

  // An address space of the guest, as the trace has it.
  class Memory final : public WordReader {
   public:
    Memory(const CoreKvmSubject& subject, unsigned space) : subject_(subject), space_(space) {}
    bool read_word(std::uint64_t gpa, std::uint64_t& word) const override;

   private:
    const CoreKvmSubject& subject_;
    const unsigned space_;
  };

  // Accesses (core_kvm_access.cc).
  bool lacks_check(const Op& op, const mmu::EntryState& entry) const;
  bool is_out_of_reach(const Op& op, const mmu::EntryState& entry) const;
  void load_paging(const Op& op, const mmu::EntryState& entry);
  StubExit run_below(const Op& op, const mmu::EntryState& entry, const Vm::Call& call);
  StubExit run_stub(const Op& op, const mmu::EntryState& entry);
  Attempt resolve(const Op& op, const StubExit& exit, Outcome& out);
  Attempt stop(Complaint complaint, const char* text, Outcome& out);
  bool answer_fault(const Op& op, const StubExit& exit, Outcome& out);
  void finish_native(const Op& op, const StubExit& exit, Outcome& out);
  Attempt finish_fetch(const Op& op, const StubExit& exit, Outcome& out);
  std::uint64_t landing_of(const mmu::EntryState& entry, std::uint64_t gva);
  std::uint64_t frame_word(std::uint64_t hpa);
  void collect_candidates(const Op& op, const mmu::EntryState& entry);
  void note_landings(const Op& op, Outcome& out);
  void choose_fetch_words(const Op& op, const mmu::EntryState& entry);

  struct Candidate {  // where a store may land
    unsigned part = 0;
    std::uint64_t hpa = 0, before = 0;  // the word there
  };

  // Of its processor, whatever the guest has; some more where the core asks for it.
  static constexpr std::uint64_t kCr4 = cr4::kPae | cr4::kPge;

  Host host_;
  CoreArena arena_;
  std::unique_ptr<Vm> vm_;
  // With what a vCPU last ran; cr3 == 0: it owes a flush.
  struct Loaded {
    std::uint64_t cr3 = 0, cr4 = 0;
    std::uint16_t pcid = 0;
    std::uint32_t pkru = 0;
  };
  std::array<Loaded, kMaxVcpus> loaded_;
  AllocationFailures failures_;
  bool image_valid_ = false;
  bool broken_ = false;  // no step can be executed any more
  FetchLender lender_;
  std::vector<Candidate> candidates_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_CORE_KVM_SUBJECT_H_
