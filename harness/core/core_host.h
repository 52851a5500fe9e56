#ifndef TWINWALK_HARNESS_CORE_CORE_HOST_H_
#define TWINWALK_HARNESS_CORE_CORE_HOST_H_

// What a subject of the core supplies: a processor that walks the core's tables, and the host's
// memory behind the memslots. The rest of a run is the same for all of them (run.h).

#include <cstdint>

#include "harness/trace/op.h"
#include "harness/trace/outcome.h"
#include "mmu_core/mmu.h"

namespace twinwalk {

enum class Attempt : std::uint8_t {
  kOver,      // the outcome is there
  kAgain,     // the core answered a fault: the processor may try once more
  kHopeless,  // something is broken: trying again leads nowhere
};

// Why no host of the core executes that step.
constexpr SkipReason why_no_core(const Op& op, const Machine& machine) {
  if (op.vcpu >= machine.vcpus) return SkipReason::kVcpuNotThere;
  if (is_of_hypervisor(op.verb)) return SkipReason::kNestedNotSupported;
  if (op.verb == Verb::kAsyncDone) return SkipReason::kVerbNotSupported;
  // No processor has both.
  if (op.verb == Verb::kSmm && shared_bit(machine) != 0) return SkipReason::kFeatureNotSupported;
  return SkipReason::kNone;
}

// The same, with what depends on the vCPU as it is: `now` is the machine with the capabilities that
// it has by then, `registers` are those of the step's vCPU.
constexpr SkipReason why_no_core(const Op& op, const Machine& machine, const Machine& now,
                                 const Registers& registers) {
  const SkipReason by_none = why_no_core(op, machine);
  if (by_none != SkipReason::kNone) return by_none;
  const auto unless = [](bool there) {
    return there ? SkipReason::kNone : SkipReason::kFeatureNotSupported;
  };
  switch (op.verb) {
    case Verb::kMov:
    case Verb::kGet:  // WRPKRU and RDPKRU
      return unless(op.reg() != Reg::kPkru ||
                    (now.has(feature::kPku) && (registers.cr4 & cr4::kPke)));
    case Verb::kInvpcid:
      return unless(now.has(feature::kInvpcid));
    case Verb::kPrefault:
    case Verb::kNxRecover:
      return machine.core != Dimension::kShadow ? SkipReason::kNone : SkipReason::kVerbNotSupported;
    default:
      return SkipReason::kNone;
  }
}

class CoreHost : public mmu::Platform {
 public:
  // Why this subject does not execute a step; kNone if it does.
  virtual SkipReason why_not(const Op& op) const = 0;

  // The processor executes op's access once, on the tables below `entry`. A #PF there goes to
  // CoreSteps::answer_fault.
  virtual Attempt attempt(const Op& op, const mmu::EntryState& entry, Outcome& out) = 0;
  // The access is over and was no #GP: fills in what is read from memory afterwards.
  virtual void finish_access(const Op& op, Outcome& out) = 0;

  // A register write, an invalidation or the reading of a register, which the core is about to
  // carry out: where the instruction is an exit of the processor's, the vCPU executes it now.
  virtual void execute_and_exit(const Op& op) { (void)op; }
  // The vCPU has executed that step's instruction, or its capabilities have changed: what its
  // processor does by itself. `before`: its registers before.
  virtual void executed(const Op& op, const Registers& before) { (void)op, (void)before; }

  // The host's memory by hva. Preconditions: backs(); page operations take 4K-aligned addresses.
  virtual bool backs(std::uint64_t hva, std::uint64_t pages) const = 0;
  virtual bool is_protected(std::uint64_t hva) const = 0;  // a store needs break_cow() first
  virtual void break_cow(std::uint64_t hva) = 0;           // the page gets a frame of its own
  // The host process stores; false if no frame is left. Naturally aligned, not protected.
  virtual bool poke(std::uint64_t hva, unsigned size, std::uint64_t value) = 0;
  virtual void invalidate(std::uint64_t hva, std::uint64_t pages) = 0;
  virtual void remap(std::uint64_t hva, std::uint64_t pages) = 0;
  virtual void protect(std::uint64_t hva, std::uint64_t pages, bool writable) = 0;
  // Huge host pages and failing allocations: nothing where why_not() skips these verbs.
  virtual void huge_split(std::uint64_t hva) { (void)hva; }
  virtual void huge_collapse(std::uint64_t hva) { (void)hva; }
  virtual void fail_allocations(std::uint64_t after, std::uint64_t count) {
    (void)after, (void)count;
  }
  // The host has taken these pages back: the first fault that needs one of them is told that it
  // comes later.
  virtual void swap_out(std::uint64_t hva, std::uint64_t pages) {
    swapped_ = {hva, hva + pages * mmu::kPageSize};
  }
  mmu::FrameLookup lookup_frame_or_later(mmu::Hva hva, bool write, mmu::u64 token) override;

  // After the core ran out of memory: true if that was injected since the last time, and so may go
  // better now.
  virtual bool memory_comes_back() { return false; }
  // An access has to be tried again: other contexts that are inside the core may go on first, since
  // it may wait for them. False: there are none.
  virtual bool let_others_go_on() { return false; }

 protected:
  ~CoreHost() = default;

 private:
  struct {
    std::uint64_t start = 0, end = 0;
  } swapped_;
};

inline mmu::FrameLookup CoreHost::lookup_frame_or_later(mmu::Hva hva, bool write, mmu::u64) {
  if (hva.raw < swapped_.start || hva.raw >= swapped_.end) return lookup_frame(hva, write);
  swapped_ = {};
  mmu::FrameLookup later;
  later.kind = mmu::FrameLookup::Kind::kLater;
  return later;
}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_CORE_HOST_H_
