#include "mmu_core/dirty_log.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/flush.h"
#include "mmu_core/tdp/dirty.h"
#include "mmu_core/tdp/removal.h"
#include "mmu_core/zap.h"

namespace mmu::dirty_log {

bool collect(VmState& vm, u32 space, u32 id, u64* bitmap, u64 words) {
  Locked slots(vm, LockId::kSlots);
  Memslot* slot = space < kAddressSpaces ? vm.spaces[space].slots.by_id(id) : nullptr;
  if (!slot || !slot->log_dirty || words != (slot->pages + 63) / 64) return false;
  Locked lock(vm, LockId::kMmu);
  tdp::Removal removal(vm);
  for (u64 w = 0; w < words; ++w) {
    const u64 dirty = __atomic_exchange_n(&slot->arrays.dirty[w], u64{0}, __ATOMIC_ACQ_REL);
    bitmap[w] = dirty;
    if (vm.tdp.on) {
      if (dirty) tdp::protect(vm, *slot, slot->base + w * 64, dirty, removal);
      continue;
    }
    for (u64 left = dirty; left; left &= left - 1) {
      const Gfn gfn = slot->base + (w * 64 + static_cast<u64>(__builtin_ctzll(left)));
      if (entries::write_protect_gfn(vm, *slot, gfn))
        count(vm, Event::kDirtyProtect, 0, PageRole{});
    }
  }
  // Before the caller acts on the bitmap: a write through a stale entry would be lost.
  flush::pay(vm);
  removal.settle();
  return true;
}

void protect_slot(VmState& vm, Memslot& slot) {
  slot.for_each_rmap(slot.base, slot.base + (slot.pages - 1),
                     [&](const RmapHead& head) { entries::write_protect_chain(vm, head); });
  flush::pay(vm);
}

}  // namespace mmu::dirty_log
