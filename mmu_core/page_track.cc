#include "mmu_core/page_track.h"

#include <new>

#include "mmu_core/entries.h"
#include "mmu_core/flush.h"
#include "mmu_core/tdp/attributes.h"
#include "mmu_core/tdp/write_protect.h"
#include "mmu_core/tracking.h"

namespace mmu::page_track {
namespace {

constexpr u16 kMost = 0xffff;

void set(SlotChunk& chunk, u64 at, u16 value) {
  __atomic_store_n(&chunk.watched[at], value, __ATOMIC_RELAXED);
}

// First the count, so that no fault gives W from now on, then what has it (P01: also what could get
// it back without asking).
void write_protect(VmState& vm, Memslot& slot, Gfn gfn) {
  if (vm.tdp.on) return tdp::write_protect_gfn(vm, slot.space, gfn);
  entries::write_protect_gfn(vm, slot, gfn);
  flush::pay(vm);
}

}  // namespace

Status add(VmState& vm, u32 space, Gfn gfn) {
  if (space >= kAddressSpaces) return Status::kInvalid;
  const Locked slots(vm, LockId::kSlots);
  Memslot* const slot = vm.spaces[space].slots.find(gfn);
  if (!slot || slot->watched(gfn) == kMost || !tdp::may_be_tracked(vm, space, gfn))
    return Status::kInvalid;
  // Nothing is allocated under the mmu lock.
  void* spare = nullptr;
  if (!slot->chunk(gfn)) {
    spare = vm.platform.alloc_object(sizeof(SlotChunk));
    if (!spare) return Status::kNoMemory;
  }
  {
    const Locked lock(vm, LockId::kMmu);
    if (!slot->chunk(gfn)) {  // a fault may have been quicker
      slot->hang_chunk(gfn, new (spare) SlotChunk);
      spare = nullptr;
    }
    SlotChunk& chunk = *slot->chunk(gfn);
    const u64 at = slot->in_chunk(gfn);
    set(chunk, at, static_cast<u16>(chunk.watched[at] + 1));
    if (chunk.watched[at] == 1) {
      tracking::forbid_large(*slot, gfn);
      write_protect(vm, *slot, gfn);
    }
  }
  if (spare) vm.platform.free_object(spare, sizeof(SlotChunk));
  return Status::kOk;
}

bool remove(VmState& vm, u32 space, Gfn gfn) {
  if (space >= kAddressSpaces) return false;
  const Locked slots(vm, LockId::kSlots);
  Memslot* const slot = vm.spaces[space].slots.find(gfn);
  if (!slot || !slot->watched(gfn)) return false;
  const Locked lock(vm, LockId::kMmu);
  SlotChunk& chunk = *slot->chunk(gfn);
  const u64 at = slot->in_chunk(gfn);
  set(chunk, at, static_cast<u16>(chunk.watched[at] - 1));
  if (!chunk.watched[at]) tracking::allow_large(*slot, gfn);  // W comes back with the next write
  return true;
}

bool any(VmState& vm, const Memslot& slot) {
  const Locked lock(vm, LockId::kMmu);  // faults make chunks
  for (const SlotChunk* chunk = slot.newest_chunk(); chunk; chunk = chunk->older)
    for (const u16 watched : chunk->watched)
      if (watched) return true;
  return false;
}

}  // namespace mmu::page_track

namespace mmu {

Status Vm::track_writes(u32 space, Gfn gfn) { return page_track::add(*state_, space, gfn); }
bool Vm::untrack_writes(u32 space, Gfn gfn) { return page_track::remove(*state_, space, gfn); }

}  // namespace mmu
