#include "mmu_core/roots.h"

#include "mmu_core/counters.h"
#include "mmu_core/flush.h"
#include "mmu_core/mmio.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/reclaim.h"
#include "mmu_core/shadow_walk.h"
#include "mmu_core/sync.h"
#include "mmu_core/zap.h"

namespace mmu::roots {
namespace {

Gfn table_of(u64 cr3) { return Gfn{(cr3 & pte::kAddress) >> 12}; }

bool usable(const VcpuState& vcpu, const Root& root, u64 cr3) {
  if (!root.valid() || root.cr3 != cr3) return false;
  return root.dummy || root.page->role == vcpu.role;
}

bool obsolete(const VcpuState& vcpu, const Root& root) {
  return root.dummy || (root.page && pages::is_obsolete(*vcpu.vm, *root.page));
}

bool load_dummy(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  if (!vm.dummy.ptr && !vm.platform.alloc_table(vm.dummy.hpa, vm.dummy.ptr)) return false;
  vcpu.root.dummy = true;
  return true;
}

bool load_page(VcpuState& vcpu, Gfn gfn) {
  VmState& vm = *vcpu.vm;
  if (!vm.caches.top_up() || !reclaim::make_pages_available(vm)) return false;
  vm.pages.hash.fit(vm.pages.used, vm.pages.oldest);
  vcpu.root.page = pages::get(vcpu, gfn, vcpu.role);
  ++vcpu.root.page->root_count;
  return true;
}

void sync_entry_in(VcpuState& vcpu, const Root& root, Gva gva) {
  shadow_walk(root.page, gva, [&](SpteRef ref) {
    if (ref.page->unsync) {
      count(*vcpu.vm, Event::kInvlpgSync, *ref.page);
      sync::entry(vcpu, *ref.page, ref.index);
    }
    return ref.page->unsync_children != 0;
  });
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
  const u64 cr3 = vcpu.regs.cr3;
  const Gfn gfn = table_of(cr3);
  const Memslot* slot = vm.slots.find(gfn);
  vcpu.root.cr3 = cr3;
  const bool ok = slot && !slot->invalid ? load_page(vcpu, gfn) : load_dummy(vcpu);
  ++vm.stats.root_misses;
  count(vm, Event::kRootMiss, 4, vcpu.role);
  if (ok) sync::current_root(vcpu);
  zap::commit(vm);
  if (ok) flush::current(vcpu);
  return ok;
}

void free_root(VcpuState& vcpu, Root& root) {
  if (root.page) zap::put_root(*vcpu.vm, root.page);
  root = Root{};
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
  if (obsolete(vcpu, vcpu.root)) free_root(vcpu, vcpu.root);
  for (Root& r : vcpu.previous)
    if (obsolete(vcpu, r)) free_root(vcpu, r);
  zap::commit(*vcpu.vm);
}

void switch_to(VcpuState& vcpu, u64 cr3) {
  VmState& vm = *vcpu.vm;
  mmio::forget(vcpu);
  Locked lock(vm, LockId::kMmu);
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
    count(vm, Event::kRootHit, 4, vcpu.role);
    if (carry.page) carry.page->write_flood = 0;
  } else {
    free_root(vcpu, carry);  // the oldest falls out
    vcpu.root = Root{};
  }
  zap::commit(vm);
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
  for (const Root& r : vcpu.previous) sync_entry_in(vcpu, r, gva);
  do_more_than_owed(vcpu);
  zap::commit(vm);
  flush::address(vcpu, gva);
}

void sync_address(VcpuState& vcpu, Gva gva) {
  VmState& vm = *vcpu.vm;
  Locked lock(vm, LockId::kMmu);
  sync_entry_in(vcpu, vcpu.root, gva);
  for (const Root& r : vcpu.previous)  // of the same PCID, kept by a load that did not flush
    if (r.valid() && ((r.cr3 ^ vcpu.regs.cr3) & cr3::kPcid) == 0) sync_entry_in(vcpu, r, gva);
  zap::commit(vm);
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
