// Host steps of subject `kvm`.

#include <algorithm>

#include "kvm_runner/kvm_subject.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

void KvmSubject::host_store(const Op& op, Outcome& out) {
  if (memory_.touches_runner(op.gpa, op.size)) return skip(out, SkipReason::kHostLacksFeature);
  if (!memory_.write(op.gpa, static_cast<unsigned>(op.size), op.value))
    out.kind = OutcomeKind::kRefused;
}

// Makes KVM's memslot `id` what `slot` says.
int KvmSubject::apply_slot(std::uint64_t id, const Slot& slot) {
  const std::uint32_t flags =
      (slot.read_only ? KVM_MEM_READONLY : 0u) | (slot.log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0u);
  return vm_->set_slot(static_cast<unsigned>(id), slot.gpa, slot.live ? slot.bytes : 0,
                       memory_.backing().at(slot.offset), flags);
}

void KvmSubject::slot_add(const Op& op, Outcome& out) {
  const std::uint64_t bytes = op.pages * kPage;
  if (!memory_.slots().may_add(op)) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  const std::uint64_t offset = op.hva - kHvaBase;
  if (memory_.layout().overlaps(op.gpa, bytes) || !memory_.backing().seed(offset, bytes)) {
    return skip(out, SkipReason::kHostLacksFeature);
  }
  const Slot slot{true,
                  (op.flags & slot_flag::kReadOnly) != 0,
                  (op.flags & slot_flag::kLogDirty) != 0,
                  op.gpa,
                  bytes,
                  offset};
  if (apply_slot(op.slot, slot) != 0) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  memory_.slots().put(op.slot, slot);
  dirty_[op.slot].clear();
}

void KvmSubject::slot_delete(const Op& op, Outcome& out) {
  Slot slot;
  if (memory_.slots().is_live(op.slot)) {
    slot = memory_.slots()[op.slot];
    slot.live = false;
  }
  if (slot.bytes != 0) take_rings();
  if (slot.bytes == 0 || apply_slot(op.slot, slot) != 0) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  memory_.slots().put(op.slot, {});
}

void KvmSubject::slot_move(const Op& op, Outcome& out) {
  if (!memory_.slots().is_live(op.slot)) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  Slot slot = memory_.slots()[op.slot];
  if (!memory_.slots().fits(op.slot, op.gpa, slot.bytes)) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  if (memory_.layout().overlaps(op.gpa, slot.bytes))
    return skip(out, SkipReason::kHostLacksFeature);
  slot.gpa = op.gpa;
  take_rings();
  if (apply_slot(op.slot, slot) != 0) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  memory_.slots().put(op.slot, slot);
}

// KVM does not change KVM_MEM_READONLY in place: then the slot is deleted and added again, and what
// its log held by then is kept.
void KvmSubject::slot_flags(const Op& op, Outcome& out) {
  if (!memory_.slots().is_live(op.slot)) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  const Slot old = memory_.slots()[op.slot];
  Slot slot = old;
  slot.read_only = (op.flags & slot_flag::kReadOnly) != 0;
  slot.log_dirty = (op.flags & slot_flag::kLogDirty) != 0;
  take_rings();
  if (!slot.log_dirty) dirty_[op.slot].clear();
  if (slot.read_only != old.read_only) {
    if (old.log_dirty && slot.log_dirty) keep_dirty(op.slot);
    Slot gone = old;
    gone.live = false;
    apply_slot(op.slot, gone);
  }
  if (apply_slot(op.slot, slot) != 0)
    return stop(out, Complaint::kNone, "KVM refused to change the flags of a slot");
  memory_.slots().put(op.slot, slot);
}

// invalidate, remap, protect: real changes of this process's mappings, of which KVM's notifier
// learns.
void KvmSubject::change_backing(const Op& op, Outcome& out) {
  const std::uint64_t offset = op.hva - kHvaBase, bytes = op.pages * kPage;
  const bool inside = op.hva % kPage == 0 && op.hva >= kHvaBase && bytes <= Backing::kSpan &&
                      offset <= Backing::kSpan - bytes;
  if (!inside || bytes == 0) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  if (op.verb == Verb::kInvalidate) {
    if (!memory_.discard(offset, bytes)) skip(out, SkipReason::kHostLacksFeature);
    return;
  }
  const bool widens = op.verb == Verb::kProtect && op.value != 0;  // a write finds its frame anyway
  if (widens) return;
  if (!memory_.backing().seed(offset, bytes) || !memory_.share(offset, bytes))
    skip(out, SkipReason::kHostLacksFeature);
}

void KvmSubject::change_host_page(const Op& op, Outcome& out) {
  const std::uint64_t offset = op.hva - kHvaBase;
  if (op.hva % kPage != 0 || offset >= Backing::kSpan) {
    out.kind = OutcomeKind::kRefused;
    return;
  }
  const bool done = op.verb == Verb::kHugeSplit ? memory_.split(offset) : memory_.collapse(offset);
  if (!done) skip(out, SkipReason::kHostLacksFeature);
}

}  // namespace twinwalk::kvm
