#include "mmu_core/sync.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/flush.h"
#include "mmu_core/guest_walker.h"
#include "mmu_core/quadrant.h"
#include "mmu_core/unsync.h"
#include "mmu_core/zap.h"

namespace mmu::sync {
namespace {

void entry_mmio(VcpuState& vcpu, SpteRef ref, const Entitlement& now) {
  VmState& vm = *vcpu.vm;
  const u64 was = entries::load(ref);
  const bool still_mmio = now.any && !space_of(vcpu).slots.find(now.gfn);
  if (still_mmio && spte::mmio_gfn(was) == now.gfn && spte::access_of(was) == now.access) return;
  entries::drop(vm, ref);
}

void entry_leaf(VcpuState& vcpu, SpteRef ref, const Entitlement& now) {
  VmState& vm = *vcpu.vm;
  ShadowPage& p = *ref.page;
  Memslot* slot = space_of(vcpu).slots.find(now.gfn);
  if (!slot || now.gfn != p.leaf_gfn(ref.index)) {
    count(vm, Event::kSyncDropped, p);
    entries::drop(vm, ref);
    return;
  }
  const u64 was = entries::load(ref);
  spte::LeafParts parts;
  parts.pfn = spte::pfn_of(was);
  parts.access = now.access;
  parts.pkey = now.pkey;
  parts.host_writable = was & spte::kHostWritable;
  u64 fresh = spte::make_leaf(parts);
  if (spte::is_writable(fresh) && !spte::is_writable(was) &&
      !unsync::try_to_make_writable(vm, *slot, now.gfn, unsync::Caller::kSynchronizing))
    fresh = spte::without_write(fresh);
  if (spte::is_writable(fresh)) GuestMemory::mark_dirty(*slot, now.gfn);
  p.set_leaf(ref.index, now.gfn, now.access);
  if ((fresh ^ was) & ~(pte::kA | pte::kD)) {
    count(vm, Event::kSyncChanged, p);
    entries::update_leaf(vm, ref, fresh);
  }
}

}  // namespace

Entitlement entitlement(const WalkContext& context, u64 gpte, unsigned level, u8 above) {
  Entitlement e;
  if (!(gpte & pte::kP) || !(gpte & pte::kA) || context.reserved.violates(gpte, level)) return e;
  e.any = true;
  e.gfn = leaf_gfn(gpte, level, context.mode->entry_bytes == 4);
  e.access = above & entry_access(gpte, context.nx);
  if (!(gpte & pte::kD)) e.access = static_cast<u8>(e.access & ~acc::kW);
  e.pkey = context.pke ? pte::Pkey::get(gpte) : u8{0};
  return e;
}

void entry(VcpuState& vcpu, ShadowPage& p, unsigned index) {
  VmState& vm = *vcpu.vm;
  const SpteRef ref{&p, index};
  const u64 was = entries::load(ref);
  if (!was) return;
  u64 gpte = 0;
  if (space_of(vcpu).memory.read(quadrant::gpte_gpa(p, index), quadrant::gpte_bytes(p.role),
                                 gpte) != GuestMemory::Result::kOk)
    gpte = 0;
  p.info->seen[index] = gpte;
  const Entitlement now = entitlement(vcpu.context, gpte, p.role.level(), p.role.access());
  if (spte::is_mmio(was)) {
    entry_mmio(vcpu, ref, now);
  } else if (!now.any) {
    count(vm, Event::kSyncDropped, p);
    entries::drop(vm, ref);
  } else {
    entry_leaf(vcpu, ref, now);
  }
}

bool page(VcpuState& vcpu, ShadowPage& p) {
  constexpr u64 kOwn = PageRole::Level::mask | PageRole::Access::mask | PageRole::Quadrant::mask;
  if (p.role.direct() || (p.role.word ^ vcpu.role.word) & ~kOwn) return false;
  ++vcpu.vm->stats.syncs;
  count(*vcpu.vm, Event::kSync, p);
  p.for_each_filled([&](unsigned i) { entry(vcpu, p, i); });
  return true;
}

void children(VcpuState& vcpu, ShadowPage& p) {
  VmState& vm = *vcpu.vm;
  const auto for_each_unsync_child = [&](auto&& f) {
    for (unsigned word = 0; word < kEntries / 64 && p.unsync_children; ++word)
      for (u64 left = p.unsync_bitmap[word]; left; left &= left - 1)
        f(word * 64 + static_cast<unsigned>(__builtin_ctzll(left)));
  };
  // First all protections, then one flush, then the reading: a write that slips in between must
  // fault.
  for_each_unsync_child([&](unsigned i) {
    const ShadowPage* child = p.child(i);
    Memslot* slot = space_of(vm, child->role).slots.find(child->gfn);
    if (child->unsync && slot) entries::write_protect_gfn(vm, *slot, child->gfn);
  });
  flush::pay(vm);
  for_each_unsync_child([&](unsigned i) {
    ShadowPage* child = p.child(i);
    if (child->unsync) {
      if (!page(vcpu, *child)) {
        zap::page(vm, child);
        return;
      }
      unsync::clear(vm, *child);
    } else if (child->unsync_children) {
      children(vcpu, *child);
    }
    if (!child->unsync && !child->unsync_children) unsync::clear_child(p, i);
  });
  flush::pay(vm);
}

void root(VcpuState& vcpu, const Root& r) {
  r.for_each_page([&](ShadowPage& page) {
    if (page.unsync_children) children(vcpu, page);
  });
}

void current_root(VcpuState& vcpu) { root(vcpu, vcpu.root); }

// One of another paging mode, or with other rights, is none of this context's business: it comes
// back through a load, which syncs it.
void previous_roots(VcpuState& vcpu) {
  for (const Root& r : vcpu.previous)
    if (r.has_role(vcpu.role)) root(vcpu, r);
}

}  // namespace mmu::sync
