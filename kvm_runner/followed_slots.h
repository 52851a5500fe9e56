#ifndef TWINWALK_KVM_RUNNER_FOLLOWED_SLOTS_H_
#define TWINWALK_KVM_RUNNER_FOLLOWED_SLOTS_H_

// The memslots of a run as its outcomes tell them. For telling deviations of KVMs; nothing is
// judged by it.

#include "harness/trace/outcome.h"
#include "kvm_runner/guest_memory.h"

namespace twinwalk::kvm {

class FollowedSlots {
 public:
  explicit FollowedSlots(const Machine& machine) { slots_.reset(machine); }

  void follow(const Op& op, const Outcome& outcome);

  const Slot* find(std::uint64_t gpa) const { return slots_.find(gpa); }
  // Where the byte lies in hva space, so that aliases are one; kUnknownGpa if nowhere.
  std::uint64_t offset_of(std::uint64_t gpa) const {
    const Slot* const slot = slots_.find(gpa);
    return slot != nullptr ? slot->offset + (gpa - slot->gpa) : kUnknownGpa;
  }

 private:
  SlotTable slots_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_FOLLOWED_SLOTS_H_
