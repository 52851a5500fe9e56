#include "mmu_core/tdp/attributes.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/zap.h"

namespace mmu::tdp {
namespace {

bool any_private(const VmState& vm, Gfn first, u64 pages) {
  const PrivateRanges& ranges = vm.tdp.private_ranges;
  return ranges.contains(first) || !ranges.uniform(first, pages);
}

// Of the pages of a slot that lie in [first, last].
bool may_become_private(const Memslot& slot, Gfn first, Gfn last) {
  const Gfn slot_last = slot.base + (slot.pages - 1);
  const Gfn from = first < slot.base ? slot.base : first;
  const Gfn to = last < slot_last ? last : slot_last;
  if (from > to) return true;
  return !slot.read_only && !slot.log_dirty && !slot.any_watched(from, to - from + 1);
}

}  // namespace

bool may_be_private(const VmState& vm, const MemslotRequest& request, const Memslot& before) {
  using Kind = MemslotRequest::Kind;
  if (!vm.config.external_private || request.space != 0) return true;
  const bool keeps_flags = request.kind == Kind::kMove || request.kind == Kind::kDelete;
  const bool protects =
      keeps_flags ? before.read_only || before.log_dirty : request.read_only || request.log_dirty;
  if (!protects || request.kind == Kind::kDelete) return true;
  const Gfn base = request.kind == Kind::kFlags ? before.base : request.gfn;
  return !any_private(vm, base, request.kind == Kind::kAdd ? request.pages : before.pages);
}

bool may_be_tracked(const VmState& vm, u32 space, Gfn gfn) {
  return !vm.config.external_private || space != 0 || !vm.tdp.private_ranges.contains(gfn);
}

void note_mixed(const Memslot& slot, const PrivateRanges& ranges, Gfn first, Gfn last) {
  const Gfn slot_last = slot.base + (slot.pages - 1);
  const Gfn from = first < slot.base ? slot.base : first;
  const Gfn to = last < slot_last ? last : slot_last;
  if (from > to) return;
  for (unsigned level = 2; level <= kRmapLevels; ++level) {
    const u64 pages = pages_of_level(level);
    for (u64 at = from.raw & ~(pages - 1); at <= to.raw; at += pages) {
      const Gfn inside{at < slot.base.raw ? slot.base.raw : at};
      slot.large(inside, level).mixed = !ranges.uniform(Gfn{at}, pages);
    }
  }
}

Status set_private(VmState& vm, Gfn gfn, u64 pages, bool is_private) {
  if (!vm.config.shared_bit || pages == 0) return Status::kInvalid;
  const u64 end = vm.config.shared_bit >> 12;
  if (gfn.raw >= end || pages > end - gfn.raw) return Status::kInvalid;
  const Gfn last = gfn + (pages - 1);
  Locked slots(vm, LockId::kSlots);
  Locked lock(vm, LockId::kMmu);
  if (vm.config.external_private && is_private)
    for (const Memslot& slot : vm.spaces[0].slots.active().slot)
      if (slot.used && !may_become_private(slot, gfn, last)) return Status::kInvalid;
  // First of all: no fault maps by the old attributes while the lock is given up.
  if (!vm.tdp.private_ranges.set(gfn, pages, is_private)) return Status::kNoMemory;
  for (const Memslot& slot : vm.spaces[0].slots.active().slot)
    if (slot.used) note_mixed(slot, vm.tdp.private_ranges, gfn, last);
  count(vm, TdpEvent::kAttributes);
  zap_kind(vm, lock, !is_private, gfn, last);
  return Status::kOk;
}

}  // namespace mmu::tdp
