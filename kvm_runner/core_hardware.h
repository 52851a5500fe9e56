#ifndef TWINWALK_KVM_RUNNER_CORE_HARDWARE_H_
#define TWINWALK_KVM_RUNNER_CORE_HARDWARE_H_

// A subject of the core whose tables a processor walks that is not simulated: what subjects
// `core-kvm` and `core-vmx` have in common.
//
//   trace step ──► core ──► tables in CoreArena ──► the processor runs the access ──► #PF or EPT
//   violation ──► the core
//
// The host's memory is the arena. An access is a stub of the payload; where it landed is told from
// what changed, or from the word that a fetch ran.

#include <cstdint>
#include <vector>

#include "harness/core/allocation_failures.h"
#include "harness/core/run.h"
#include "kvm_runner/core_arena.h"
#include "kvm_runner/fetch_lender.h"
#include "kvm_runner/guest_memory.h"
#include "kvm_runner/stub_call.h"

namespace twinwalk::kvm {

class CoreHardware : public CoreRun {
 public:
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    return image_valid_ && Memory(*this, 0).read_word(gpa, word);
  }

 protected:
  CoreHardware() : CoreRun({}) {}

  // ---- what a processor supplies
  virtual bool has_host(std::uint32_t feature) const = 0;
  // Runs a stub on what `entry` says, with the runner's own entry in the root.
  virtual StubExit run_in_guest(const Op& op, const mmu::EntryState& entry,
                                const StubCall& call) = 0;
  // What the runner's entry in a shadow root with so many levels is.
  virtual std::uint64_t runner_entry(unsigned levels) const = 0;
  // Where it does not do as the manual says, and no more is asked of it.
  virtual bool is_beyond(const Op& op, const mmu::EntryState& entry) const {
    (void)op, (void)entry;
    return false;
  }
  // Of a #PF on the core's tables.
  virtual std::uint32_t error_code_of(const Op& op, const StubExit& exit) const {
    (void)op;
    return exit.error_code;
  }
  // With two dimensions: the core has injected a #PF into the guest.
  virtual void fault_injected(unsigned vcpu) { (void)vcpu; }

  // In prepare(), first; and what there follows from the processor's MAXPHYADDR. False: the trace
  // wants more.
  void reset_host(const Machine& machine);
  bool fit_maxphyaddr(const Machine& machine, unsigned own);
  // In after_run().
  void end_run(bool trapped) {
    if (trapped || broken_) image_valid_ = false;
  }

  // ---- CoreRun, CoreHost
  std::uint64_t live_tables() const override { return arena_.live_tables(); }
  std::uint64_t live_objects() const override { return arena_.live_objects(); }
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
  void huge_split(std::uint64_t hva) override { arena_.huge_split(hva - kHvaBase); }
  void huge_collapse(std::uint64_t hva) override { arena_.huge_collapse(hva - kHvaBase); }
  void fail_allocations(std::uint64_t after, std::uint64_t count) override {
    failures_.ask(after, count);
  }
  bool memory_comes_back() override { return failures_.come_back(context()); }

  // ---- mmu::Platform
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

  // An address space of the guest, as the trace has it.
  class Memory final : public WordReader {
   public:
    Memory(const CoreHardware& subject, unsigned space) : subject_(subject), space_(space) {}
    bool read_word(std::uint64_t gpa, std::uint64_t& word) const override;

   private:
    const CoreHardware& subject_;
    const unsigned space_;
  };
  GuestWalk walk_own(const Op& op, const mmu::EntryState& entry, std::uint64_t gva) const;

  // Puts the runner's own entry into the root that the processor walks for as long as the stub
  // runs: the core's audit never sees it. By default into the core's shadow root.
  virtual StubExit run_below(const Op& op, const mmu::EntryState& entry, const StubCall& call);
  // The run is over: of the steps to come none can be executed.
  Attempt stop(Complaint complaint, const char* text, Outcome& out);

  CoreArena arena_;
  bool image_valid_ = false;

 private:
  template <class AtPage, class AtRegion>
  void by_region(std::uint64_t hva, std::uint64_t pages, AtPage at_page, AtRegion at_region);

  // Accesses (core_hardware_access.cc).
  bool lacks_check(const Op& op, const mmu::EntryState& entry) const;
  bool is_out_of_reach(const Op& op, const mmu::EntryState& entry) const;
  StubExit run_stub(const Op& op, const mmu::EntryState& entry);
  Attempt resolve(const Op& op, const StubExit& exit, Outcome& out);
  Attempt resolve_exception(const Op& op, const StubExit& exit, Outcome& out);
  Attempt resolve_second_dimension(const Op& op, const NestedExit& exit, Outcome& out);
  bool is_canonical(const Op& op) const;
  Attempt resolve_not_canonical(const Op& op, const mmu::TdpFault& fault, Outcome& out);
  void finish_native(const Op& op, const StubExit& exit, Outcome& out);
  Attempt finish_fetch(const Op& op, const StubExit& exit, Outcome& out);
  std::uint64_t translate(const mmu::EntryState& entry, std::uint64_t address) const;
  std::uint64_t landing_of(const Op& op, const mmu::EntryState& entry, std::uint64_t gva);
  std::uint64_t frame_word(std::uint64_t hpa);
  void collect_candidates(const Op& op, const mmu::EntryState& entry);
  void note_landings(const Op& op, Outcome& out);
  bool choose_fetch_words(const Op& op, const mmu::EntryState& entry);
  bool two_dimensions() const { return machine_.core != Dimension::kShadow; }

  struct Candidate {  // where a store may land
    unsigned part = 0;
    std::uint64_t hpa = 0, before = 0;  // the word there
  };

  AllocationFailures failures_;
  bool narrower_host_ = false;  // than the trace says
  bool broken_ = false;         // no step can be executed any more
  FetchLender lender_;
  std::vector<Candidate> candidates_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_CORE_HARDWARE_H_
