#include "mmu_core/tdp/attributes.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/zap.h"

namespace mmu::tdp {

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
  // First of all: no fault maps by the old attributes while the lock is given up.
  if (!vm.tdp.private_ranges.set(gfn, pages, is_private)) return Status::kNoMemory;
  for (const Memslot& slot : vm.spaces[0].slots.active().slot)
    if (slot.used) note_mixed(slot, vm.tdp.private_ranges, gfn, last);
  count(vm, TdpEvent::kAttributes);
  zap_kind(vm, lock, !is_private, gfn, last);
  return Status::kOk;
}

}  // namespace mmu::tdp
