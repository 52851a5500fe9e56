#include "mmu_core/notifier.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/flush.h"
#include "mmu_core/rmap.h"
#include "mmu_core/tdp/age.h"
#include "mmu_core/tdp/zap.h"
#include "mmu_core/zap.h"

namespace mmu::notifier {
namespace {

// Calls f(Memslot&, first gfn, last gfn) for each part of [start, end) that a slot of this space
// shows.
template <class F>
void for_each_range(Memslots& slots, Hva start, Hva end, F&& f) {
  for (u32 id = 0; id < kMaxMemslots; ++id) {
    Memslot* slot = slots.by_id(id);
    if (!slot) continue;
    const u64 from = start.raw > slot->hva.raw ? start.raw : slot->hva.raw;
    const u64 slot_end = slot->hva.raw + (slot->pages << 12);
    const u64 to = end.raw < slot_end ? end.raw : slot_end;
    if (from >= to) continue;
    f(*slot, slot->base + ((from - slot->hva.raw) >> 12),
      slot->base + ((to - 1 - slot->hva.raw) >> 12));
  }
}

// Calls f(RmapHead&) for every chain, of every level, that maps a part of the range.
template <class F>
void for_each_chain(VmState& vm, Hva start, Hva end, F&& f) {
  for (AddressSpace& space : vm.spaces) {
    for_each_range(space.slots, start, end,
                   [&](Memslot& slot, Gfn first, Gfn last) { slot.for_each_rmap(first, last, f); });
  }
}

void zap_tdp(VmState& vm, Locked& lock, Hva start, Hva end) {
  for (AddressSpace& space : vm.spaces) {
    for_each_range(space.slots, start, end, [&](const Memslot& slot, Gfn first, Gfn last) {
      tdp::zap_leaves(vm, lock, slot.space, first, last);
    });
  }
}

bool age_tdp(VmState& vm, Hva start, Hva end, bool clear) {
  bool young = false;
  for (AddressSpace& space : vm.spaces) {
    for_each_range(space.slots, start, end, [&](const Memslot& slot, Gfn first, Gfn last) {
      young |= tdp::age(vm, slot.space, first, last, clear);
    });
  }
  return young;
}

}  // namespace

Snapshot snapshot(const VmState& vm) { return {vm.notifier.sequence}; }

bool in_progress(const VmState& vm, Hva start, Hva end) {
  const Notifier& n = vm.notifier;
  return n.in_progress && start < n.end.load() && end > n.start.load();
}

bool changed(const VmState& vm, Snapshot seen, Hva hva) {
  const Notifier& n = vm.notifier;
  if (n.in_progress && hva >= n.start.load() && hva < n.end.load()) return true;
  return n.sequence != seen.sequence;
}

void begin(VmState& vm, Hva start, Hva end) {
  {
    Locked lock(vm, LockId::kMmu);
    Notifier& n = vm.notifier;
    const bool first = n.in_progress == 0;
    if (first || start < n.start.load()) n.start = start;
    if (first || end > n.end.load()) n.end = end;
    n.in_progress = n.in_progress + 1;
    if (vm.tdp.on) zap_tdp(vm, lock, start, end);
    for_each_chain(vm, start, end, [&](RmapHead& head) {
      count(vm, Event::kNotifierZap, *chain::front(head).page);
      entries::drop_chain(vm, head);
    });
    zap::commit(vm);
  }
  vm.platform.yield(YieldPoint::kNotifierBegun, 0);
}

void end(VmState& vm, Hva, Hva) {
  Locked lock(vm, LockId::kMmu);
  Notifier& n = vm.notifier;
  if (!n.in_progress) vm.platform.panic("notifier end without begin");
  n.sequence = n.sequence + 1;
  n.in_progress = n.in_progress - 1;
}

bool age(VmState& vm, Hva start, Hva end, bool clear) {
  Locked lock(vm, LockId::kMmu);
  if (vm.tdp.on) return age_tdp(vm, start, end, clear);
  bool young = false;
  for_each_chain(vm, start, end, [&](RmapHead& head) {
    chain::for_each(head, [&](SpteRef ref) {
      u64* entry = &ref.page->spt[ref.index];
      const u64 was = entries::load(ref);
      young |= (was & pte::kA) != 0;
      // No flush: an entry that stays cached with A set only makes the page look older than it is.
      if (clear) __atomic_fetch_and(entry, ~pte::kA, __ATOMIC_ACQ_REL);
      count(vm, Event::kAge, *ref.page);
      return true;
    });
  });
  return young;
}

}  // namespace mmu::notifier
