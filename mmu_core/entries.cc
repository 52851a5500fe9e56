#include "mmu_core/entries.h"

#include "mmu_core/counters.h"
#include "mmu_core/flush.h"
#include "mmu_core/rmap.h"
#include "mmu_core/unsync.h"

namespace mmu::entries {
namespace {

u64 exchange(SpteRef ref, u64 value) {
  return __atomic_exchange_n(&ref.page->spt[ref.index], value, __ATOMIC_ACQ_REL);
}

void fill(VmState& vm, SpteRef ref, u64 value) {
  if (exchange(ref, value) != 0) vm.platform.panic("shadow entry filled twice");
  ++ref.page->used;
  ref.page->filled[ref.index / 64] |= bit(ref.index % 64);
}

// The reverse map of a gfn that is mapped, and the count by which the audit knows that no chain
// holds more.
void rmap_add(VcpuState& vcpu, Memslot& slot, Gfn gfn, SpteRef ref) {
  const unsigned level = ref.page->role.level();
  RmapHead& head = level == 1 ? vcpu.caches.chunk_of(slot, gfn).rmap[slot.in_chunk(gfn)]
                              : *slot.rmap(gfn, level);
  chain::add(head, ref, vcpu.caches);
  ++vcpu.vm->rmap_refs;
}

// The slot of a gfn that is mapped: its reverse map must be there as long as the mapping is.
Memslot& slot_of(VmState& vm, PageRole role, Gfn gfn) {
  Memslot* slot = space_of(vm, role).slots.find(gfn);
  if (!slot) vm.platform.panic("mapped gfn without a memslot");
  return *slot;
}

void rmap_remove(VmState& vm, Gfn gfn, SpteRef ref) {
  const PageRole role = ref.page->role;
  RmapHead* const head = slot_of(vm, role, gfn).rmap(gfn, role.level());
  if (!head || !chain::remove(*head, ref, vm.platform))
    vm.platform.panic("leaf missing from the reverse map");
  --vm.rmap_refs;
}

}  // namespace

u64 load(const SpteRef& ref) {
  return __atomic_load_n(&ref.page->spt[ref.index], __ATOMIC_ACQUIRE);
}

void set_leaf(VcpuState& vcpu, SpteRef ref, u64 spte, Memslot& slot, Gfn gfn, u8 access) {
  if (!ref.page->role.direct()) ref.page->set_leaf(ref.index, gfn, access);
  fill(*vcpu.vm, ref, spte);
  rmap_add(vcpu, slot, gfn, ref);
}

void update_leaf(VmState& vm, SpteRef ref, u64 spte) {
  u64* entry = &ref.page->spt[ref.index];
  u64 was = load(ref);
  // A and D may appear under our hands; never lose D of a writable entry.
  while (!__atomic_compare_exchange_n(entry, &was, spte | (was & pte::kA), false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_ACQUIRE)) {
  }
  if (spte::change_owes_flush(was, spte)) flush::owe(vm);
}

void set_mmio(VmState& vm, SpteRef ref, u64 spte) {
  ++vm.stats.mmio_sptes;
  ++vm.shape;
  fill(vm, ref, spte);
}

void link_child(VcpuState& vcpu, SpteRef ref, ShadowPage* child) {
  VmState& vm = *vcpu.vm;
  ++vm.shape;
  ref.page->set_child(ref.index, child);
  fill(vm, ref, spte::make_nonleaf(child->hpa));
  chain::add(child->parents, ref, vcpu.caches);
  count(vm, Event::kLink, *child);
  if (child->unsync || child->unsync_children) unsync::mark_parent(ref);
}

void drop(VmState& vm, SpteRef ref) {
  ShadowPage& page = *ref.page;
  const u64 was = exchange(ref, 0);
  if (!was) return;
  --page.used;
  page.filled[ref.index / 64] &= ~bit(ref.index % 64);
  if (!spte::is_present(was)) {  // MMIO: the hardware never cached it
    ++vm.shape;
    return;
  }
  if (spte::is_leaf(was, page.role.level())) {
    rmap_remove(vm, page.leaf_gfn(ref.index), ref);
  } else {
    ++vm.shape;
    ShadowPage* child = page.child(ref.index);
    unsync::clear_child(page, ref.index);
    if (!chain::remove(child->parents, ref, vm.platform))
      vm.platform.panic("link missing from the parent chain");
  }
  flush::owe(vm);
}

void drop_chain(VmState& vm, const RmapHead& head) {
  while (!chain::empty(head)) {
    const SpteRef ref = chain::front(head);
    if (!load(ref)) vm.platform.panic("chain names an empty entry");
    drop(vm, ref);
  }
}

bool write_protect_chain(VmState& vm, const RmapHead& head) {
  bool any = false;
  chain::for_each(head, [&](SpteRef ref) {
    const u64 was = load(ref);
    if (was & (pte::kW | spte::kMmuWritable)) {
      any = any || (was & pte::kW);
      update_leaf(vm, ref, spte::without_write(was));
      count(vm, Event::kWriteProtect, *ref.page);
    }
    return true;
  });
  return any;
}

bool write_protect_gfn(VmState& vm, Memslot& slot, Gfn gfn) {
  bool any = false;
  for (unsigned level = 1; level <= kRmapLevels; ++level)
    if (const RmapHead* head = slot.rmap(gfn, level)) any |= write_protect_chain(vm, *head);
  if (any) ++vm.stats.write_protects;
  return any;
}

}  // namespace mmu::entries
