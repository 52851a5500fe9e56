#include "mmu_core/roots.h"

#include "mmu_core/counters.h"
#include "mmu_core/flush.h"
#include "mmu_core/host_tables.h"
#include "mmu_core/mmio.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/reclaim.h"
#include "mmu_core/shadow_walk.h"
#include "mmu_core/sync.h"
#include "mmu_core/zap.h"

namespace mmu::roots {
namespace {

bool usable(const VcpuState& vcpu, const Root& root, u64 cr3) {
  if (!root.valid() || root.cr3 != cr3) return false;
  return root.kind == Root::Kind::kDummy || root.has_role(vcpu.role);
}

// Lies there a table that can be shadowed?
bool visible(const VcpuState& vcpu, Gfn gfn) {
  const Memslot* slot = space_of(vcpu).slots.find(gfn);
  return slot && !slot->invalid;
}

// Memslots have changed: what stands for tables outside memory may be wrong now.
bool stands_for_no_memory(const Root& root) { return root.kind == Root::Kind::kDummy || root.hole; }

Gfn table_of(const VcpuState& vcpu) {
  const u64 mask = vcpu.context.mode == &k32Bit ? cr3::kTable32 : cr3::kTable;
  return Gfn{(vcpu.regs.cr3 & mask) >> 12};
}

Root::Kind kind_to_load(const VcpuState& vcpu) {
  const Paging paging = vcpu.context.mode->kind;
  // Without paging CR3 names nothing; PDPTEs that are latched need no CR3.
  if (paging == Paging::kNone || paging == Paging::kPae) return Root::Kind::kArray;
  if (!visible(vcpu, table_of(vcpu))) return Root::Kind::kDummy;
  return paging == Paging::k32Bit ? Root::Kind::kArray : Root::Kind::kTree;
}

bool load_dummy(VmState& vm) {
  return vm.dummy.ptr ||
         vm.platform.alloc_table(host_tables::reach_of_root(vm), vm.dummy.hpa, vm.dummy.ptr);
}

void hold(Root& root, unsigned at, ShadowPage* page) {
  root.page[at] = page;
  ++page->root_count;
}

void load_array_page(VcpuState& vcpu, Root& root, unsigned at) {
  PageRole role = vcpu.role;
  switch (vcpu.context.mode->kind) {
    case Paging::kNone:
      return hold(root, at, pages::get(vcpu, Gfn{} + at * pages_of_level(3), role));
    case Paging::k32Bit:
      role.set<PageRole::Quadrant>(static_cast<u8>(at));
      return hold(root, at, pages::get(vcpu, table_of(vcpu), role));
    default: {
      const u64 pdpte = vcpu.regs.pdpte[at];
      if (!(pdpte & pte::kP) || (pdpte & vcpu.context.pdpte_reserved)) return;
      const Gfn directory{(pdpte & pte::kAddress) >> 12};
      if (visible(vcpu, directory)) return hold(root, at, pages::get(vcpu, directory, role));
      root.hole = true;
    }
  }
}

bool build(VcpuState& vcpu, Root::Kind kind) {
  VmState& vm = *vcpu.vm;
  if (kind == Root::Kind::kDummy) {
    if (!load_dummy(vm)) return false;
  } else if (!vcpu.caches.top_up() || !reclaim::make_pages_available(vm)) {
    return false;
  }
  vm.pages.hash.fit(vm.pages.used, vm.pages.oldest);
  Root& root = vcpu.root;
  root.kind = kind;
  root.cr3 = vcpu.regs.cr3;
  if (kind == Root::Kind::kTree) hold(root, 0, pages::get(vcpu, table_of(vcpu), vcpu.role));
  if (kind == Root::Kind::kArray)
    for (unsigned i = 0; i < Root::kPages; ++i) load_array_page(vcpu, root, i);
  return true;
}

bool take_previous(VcpuState& vcpu) {
  if (vcpu.context.mode->legacy()) return false;
  for (Root& r : vcpu.previous) {
    if (!usable(vcpu, r, vcpu.regs.cr3)) continue;
    vcpu.root = r;
    r = Root{};
    return true;
  }
  return false;
}

void keep_current(VcpuState& vcpu) {
  free_root(vcpu, vcpu.previous[kPreviousRoots - 1]);
  for (u32 i = kPreviousRoots - 1; i > 0; --i) vcpu.previous[i] = vcpu.previous[i - 1];
  vcpu.previous[0] = vcpu.root;
  vcpu.root = Root{};
}

void sync_entry_in(VcpuState& vcpu, const Root& root, Gva gva) {
  shadow_walk(root, gva, [&](SpteRef ref) {
    if (ref.page->unsync) {
      count(*vcpu.vm, Event::kInvlpgSync, *ref.page);
      sync::entry(vcpu, *ref.page, ref.index);
    }
    return ref.page->unsync_children != 0;
  });
}

// Another root of the current PCID was kept by a load that did not flush. What that one maps around
// an address by one large page the hardware may know as small ones, and whatever invalidates a part
// of a page invalidates all of it (SDM 3A "Details of TLB Use", "Operations that Invalidate TLBs
// and Paging-Structure Caches").
bool pcid_is_shared(const VcpuState& vcpu) {
  if (!(vcpu.regs.cr4 & cr4::kPcide)) return false;
  for (const Root& r : vcpu.previous)
    if (r.valid() && ((r.cr3 ^ vcpu.regs.cr3) & cr3::kPcid) == 0) return true;
  return false;
}

// Neutral options: more than an invalidation owes, which no guest may notice.
void do_more_than_owed(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  if (vm.config.options.eager_sync) {
    sync::current_root(vcpu);
    sync::previous_roots(vcpu);
  }
  if (vm.config.options.extra_zap) zap::all_fast(vm);
}

}  // namespace

bool load(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  Locked lock(vm, LockId::kMmu);
  const Root::Kind kind = kind_to_load(vcpu);
  if (!host_tables::prepare(vcpu, kind)) return false;
  const bool kept = take_previous(vcpu);
  const bool ok = kept || build(vcpu, kind);
  if (!kept) ++vm.stats.root_misses;
  count(vm, kept ? Event::kRootKept : Event::kRootMiss, vcpu.role.level(), vcpu.role);
  if (ok) {
    sync::current_root(vcpu);
    host_tables::connect(vcpu);
  }
  zap::commit(vm);
  if (ok) flush::current(vcpu);
  return ok;
}

bool make_ready(VcpuState& vcpu) {
  do {
    if (vcpu.free_obsolete_roots.exchange(false)) free_obsolete(vcpu);
    if (!vcpu.root.valid() && !load(vcpu)) return false;
  } while (vcpu.free_obsolete_roots);
  return true;
}

bool is_obsolete(const VcpuState& vcpu, const Root& root) {
  bool any = false;
  root.for_each_page([&](const ShadowPage& p) { any |= pages::is_obsolete(*vcpu.vm, p); });
  return any;
}

void free_root(VcpuState& vcpu, Root& root) {
  root.for_each_page([&](ShadowPage& p) { zap::put_root(*vcpu.vm, &p); });
  root = Root{};
  if (&root == &vcpu.root) host_tables::connect(vcpu);
}

void free_current(VcpuState& vcpu) {
  Locked lock(*vcpu.vm, LockId::kMmu);
  free_root(vcpu, vcpu.root);
  zap::commit(*vcpu.vm);
}

void free_previous(VcpuState& vcpu) {
  for (Root& r : vcpu.previous) free_root(vcpu, r);
}

void free_previous_locked(VcpuState& vcpu) {
  Locked lock(*vcpu.vm, LockId::kMmu);
  free_previous(vcpu);
  zap::commit(*vcpu.vm);
}

void free_all(VcpuState& vcpu) {
  Locked lock(*vcpu.vm, LockId::kMmu);
  free_root(vcpu, vcpu.root);
  free_previous(vcpu);
  zap::commit(*vcpu.vm);
}

void free_obsolete(VcpuState& vcpu) {
  Locked lock(*vcpu.vm, LockId::kMmu);
  const auto goes = [&](const Root& r) { return stands_for_no_memory(r) || is_obsolete(vcpu, r); };
  if (goes(vcpu.root)) free_root(vcpu, vcpu.root);
  for (Root& r : vcpu.previous)
    if (goes(r)) free_root(vcpu, r);
  zap::commit(*vcpu.vm);
}

void switch_to(VcpuState& vcpu, u64 cr3) {
  VmState& vm = *vcpu.vm;
  mmio::forget(vcpu);
  Locked lock(vm, LockId::kMmu);
  if (vcpu.context.mode->legacy()) {
    const bool named = vcpu.context.mode == &k32Bit;
    if (named && ((vcpu.root.cr3 ^ cr3) & cr3::kTable32)) free_root(vcpu, vcpu.root);
    vcpu.root.cr3 = cr3;
    zap::commit(vm);
    return;
  }
  if (usable(vcpu, vcpu.root, cr3)) return;
  // Bubble: the current root becomes the newest previous one until the wanted one has come to the
  // front.
  Root carry = vcpu.root;
  for (Root& r : vcpu.previous) {
    const Root taken = r;
    r = carry;
    carry = taken;
    if (usable(vcpu, carry, cr3)) break;
  }
  if (usable(vcpu, carry, cr3)) {
    vcpu.root = carry;
    ++vm.stats.root_hits;
    count(vm, Event::kRootHit, vcpu.role.level(), vcpu.role);
    carry.for_each_page([](ShadowPage& p) { p.write_flood = 0; });
  } else {
    free_root(vcpu, carry);  // the oldest falls out
    vcpu.root = Root{};
  }
  host_tables::connect(vcpu);
  zap::commit(vm);
}

void role_changed(VcpuState& vcpu, bool other_mode) {
  Locked lock(*vcpu.vm, LockId::kMmu);
  if (other_mode && vcpu.root.kind == Root::Kind::kTree) keep_current(vcpu);
  free_root(vcpu, vcpu.root);
  if (!other_mode) free_previous(vcpu);
  zap::commit(*vcpu.vm);
}

// At once, not at the next entry: by then another CR3 may be loaded, and the one that was named be
// forgotten.
void refresh_current(VcpuState& vcpu) {
  Locked lock(*vcpu.vm, LockId::kMmu);
  sync::current_root(vcpu);
  do_more_than_owed(vcpu);
  zap::commit(*vcpu.vm);
  flush::current(vcpu);
}

void invalidate_pcid(VcpuState& vcpu, u16 pcid) {
  mmio::forget(vcpu);
  if (pcid == flush::hardware_pcid(vcpu)) refresh_current(vcpu);
  if (!(vcpu.regs.cr4 & cr4::kPcide)) return;
  // Previous roots of this PCID may hold unsync tables that nobody will sync for them: let them go.
  VmState& vm = *vcpu.vm;
  Locked lock(vm, LockId::kMmu);
  for (Root& r : vcpu.previous)
    if (r.valid() && (r.cr3 & cr3::kPcid) == pcid) free_root(vcpu, r);
  if (pcid != flush::hardware_pcid(vcpu)) {
    FlushRequest f;
    f.kind = FlushRequest::Kind::kPcid;
    f.vcpu = vcpu.id;
    f.pcid = pcid;
    vm.platform.flush_tlb(f);
  }
  zap::commit(vm);
}

void invalidate_address(VcpuState& vcpu, Gva gva) {
  VmState& vm = *vcpu.vm;
  mmio::forget(vcpu, gva);
  Locked lock(vm, LockId::kMmu);
  count(vm, Event::kInvlpg, 0, vcpu.role);
  sync_entry_in(vcpu, vcpu.root, gva);
  for (const Root& r : vcpu.previous)
    if (r.has_role(vcpu.role)) sync_entry_in(vcpu, r, gva);  // others: see sync::previous_roots
  do_more_than_owed(vcpu);
  zap::commit(vm);
  if (pcid_is_shared(vcpu)) return flush::current(vcpu);
  flush::address(vcpu, gva);
}

void sync_address(VcpuState& vcpu, Gva gva) {
  VmState& vm = *vcpu.vm;
  Locked lock(vm, LockId::kMmu);
  sync_entry_in(vcpu, vcpu.root, gva);
  for (const Root& r : vcpu.previous)  // of the same PCID, kept by a load that did not flush
    if (r.has_role(vcpu.role) && ((r.cr3 ^ vcpu.regs.cr3) & cr3::kPcid) == 0)
      sync_entry_in(vcpu, r, gva);
  zap::commit(vm);
  if (pcid_is_shared(vcpu)) flush::current(vcpu);  // else the fault itself has done it
}

void invalidate_everything(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  mmio::forget(vcpu);
  Locked lock(vm, LockId::kMmu);
  sync::current_root(vcpu);
  sync::previous_roots(vcpu);
  zap::commit(vm);
  ++vm.stats.flushes;
  FlushRequest f;
  f.vcpu = vcpu.id;
  vm.platform.flush_tlb(f);
}

}  // namespace mmu::roots
