#include "mmu_core/tracking.h"

#include "mmu_core/entries.h"
#include "mmu_core/flush.h"

namespace mmu::tracking {
namespace {

void change_disallow(Memslot& slot, Gfn gfn, bool more) {
  for (unsigned level = 2; level <= kRmapLevels; ++level) {
    u32& n = slot.large(gfn, level).disallow;
    n = more ? n + 1 : n - 1;
  }
}

}  // namespace

void shadow(VmState& vm, const ShadowPage& page) {
  Memslot* slot = space_of(vm, page.role).slots.find(page.gfn);
  if (!slot) vm.platform.panic("shadowed table without a memslot");
  change_disallow(*slot, page.gfn, true);
  if (page.role.level() > 1)
    ++vm.caches.chunk_of(*slot, page.gfn).tracked[slot->in_chunk(page.gfn)];
  entries::write_protect_gfn(vm, *slot, page.gfn);
  flush::pay(vm);
}

void unshadow(VmState& vm, const ShadowPage& page) {
  Memslot* slot = space_of(vm, page.role).slots.find(page.gfn);
  if (!slot) vm.platform.panic("shadowed table without a memslot");
  change_disallow(*slot, page.gfn, false);
  if (page.role.level() == 1) return;
  SlotChunk* const chunk = slot->chunk(page.gfn);
  if (!chunk) vm.platform.panic("a table that is write-tracked has no count");
  --chunk->tracked[slot->in_chunk(page.gfn)];
}

u8 max_level(const Memslot& slot, Gfn gfn) {
  u8 level = 1;
  if (slot.log_dirty) return level;  // the log has 4K grain
  while (level < kRmapLevels && slot.large(gfn, level + 1u).allowed()) ++level;
  return level;
}

}  // namespace mmu::tracking
