#include "mmu_core/tracking.h"

#include "mmu_core/entries.h"
#include "mmu_core/flush.h"

namespace mmu::tracking {

void forbid_large(const Memslot& slot, Gfn gfn) {
  for (unsigned level = 2; level <= kRmapLevels; ++level) ++slot.large(gfn, level).disallow;
}

void allow_large(const Memslot& slot, Gfn gfn) {
  for (unsigned level = 2; level <= kRmapLevels; ++level) --slot.large(gfn, level).disallow;
}

void shadow(VcpuState& vcpu, const ShadowPage& page) {
  VmState& vm = *vcpu.vm;
  Memslot* slot = space_of(vm, page.role).slots.find(page.gfn);
  if (!slot) vm.platform.panic("shadowed table without a memslot");
  forbid_large(*slot, page.gfn);
  if (page.role.level() > 1)
    __atomic_fetch_add(&vcpu.caches.chunk_of(*slot, page.gfn).tracked[slot->in_chunk(page.gfn)], 1,
                       __ATOMIC_RELAXED);
  entries::write_protect_gfn(vm, *slot, page.gfn);
  flush::pay(vm);
}

void unshadow(VmState& vm, const ShadowPage& page) {
  Memslot* slot = space_of(vm, page.role).slots.find(page.gfn);
  if (!slot) vm.platform.panic("shadowed table without a memslot");
  allow_large(*slot, page.gfn);
  if (page.role.level() == 1) return;
  SlotChunk* const chunk = slot->chunk(page.gfn);
  if (!chunk) vm.platform.panic("a table that is write-tracked has no count");
  __atomic_fetch_sub(&chunk->tracked[slot->in_chunk(page.gfn)], 1, __ATOMIC_RELAXED);
}

u8 max_level(const Memslot& slot, Gfn gfn) {
  u8 level = 1;
  if (slot.log_dirty) return level;  // the log has 4K grain
  while (level < kRmapLevels && slot.large(gfn, level + 1u).allowed()) ++level;
  return level;
}

}  // namespace mmu::tracking
