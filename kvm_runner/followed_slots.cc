#include "kvm_runner/followed_slots.h"

#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

void FollowedSlots::follow(const Op& op, const Outcome& outcome) {
  if (outcome.kind != OutcomeKind::kDone || op.slot >= kMaxSlots) return;
  Slot slot = slots_[op.slot];
  switch (op.verb) {
    case Verb::kSlotAdd:
      slot = {true, false, false, op.gpa, op.pages * kPage, op.hva - kHvaBase};
      break;
    case Verb::kSlotDelete:
      slot = {};
      break;
    case Verb::kSlotMove:
      slot.gpa = op.gpa;
      break;
    case Verb::kSlotFlags:
      break;
    default:
      return;
  }
  if (op.verb == Verb::kSlotAdd || op.verb == Verb::kSlotFlags) {
    slot.read_only = (op.flags & slot_flag::kReadOnly) != 0;
    slot.log_dirty = (op.flags & slot_flag::kLogDirty) != 0;
  }
  slots_.put(op.slot, slot);
}

}  // namespace twinwalk::kvm
