#include "mmu_core/zap.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/flush.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/rmap.h"
#include "mmu_core/tracking.h"
#include "mmu_core/unsync.h"

namespace mmu::zap {
namespace {

void unsync_children(VmState& vm, ShadowPage& parent) {
  for (unsigned i = 0; i < kEntries && parent.unsync_children; ++i) {
    if (!(parent.unsync_bitmap[i / 64] & bit(i % 64))) continue;
    ShadowPage* child = parent.child(i);
    if (child->unsync) {
      page(vm, child);  // drops the link, and with it the bit
    } else {
      unsync_children(vm, *child);
      unsync::clear_child(parent, i);
    }
  }
}

void unlink_children(VmState& vm, ShadowPage* p) {
  p->for_each_filled([&](unsigned i) { entries::drop(vm, {p, i}); });
}

void unlink_parents(VmState& vm, ShadowPage* p) { entries::drop_chain(vm, p->parents); }

void ask_to_drop_roots(VmState& vm) {
  for (u32 i = 0; i < vm.config.vcpus; ++i) vm.vcpu[i].free_obsolete_roots = true;
}

void condemn(VmState& vm, ShadowPage* p) {
  p->next = vm.pages.condemned;
  vm.pages.condemned = p;
}

}  // namespace

void page(VmState& vm, ShadowPage* p) {
  // Off the list and without links, so nobody can come upon it; a loop over the list would never
  // end.
  if (p->role.invalid()) vm.platform.panic("an invalid page is zapped again");
  ++vm.stats.zaps;
  count(vm, p->root_count ? Event::kZapRoot : Event::kZap, *p);
  unsync_children(vm, *p);
  unlink_children(vm, p);
  unlink_parents(vm, p);
  if (p->has_gptes()) tracking::unshadow(vm, *p);
  if (p->unsync) unsync::clear(vm, *p);
  pages::remove_from_hash(vm, p);
  pages::remove_from_list(vm, p);
  const bool was_obsolete = pages::is_obsolete(vm, *p);
  p->role.set<PageRole::Invalid>(true);
  if (p->root_count == 0) {
    condemn(vm, p);
    return;
  }
  ++vm.pages.invalid_roots;
  if (!was_obsolete) ask_to_drop_roots(vm);
}

void commit(VmState& vm) {
  if (vm.pages.condemned) flush::owe(vm);
  flush::pay(vm);
  while (ShadowPage* p = vm.pages.condemned) {
    vm.pages.condemned = p->next;
    free_page(vm.platform, p);
  }
}

void put_root(VmState& vm, ShadowPage* p) {
  if (--p->root_count || !p->role.invalid()) return;
  --vm.pages.invalid_roots;
  condemn(vm, p);
}

void all_fast(VmState& vm) {
  ++vm.stats.fast_zaps;
  ++vm.pages.generation;
  ask_to_drop_roots(vm);
  for (ShadowPage* p = vm.pages.oldest; p; p = vm.pages.oldest) {
    if (!pages::is_obsolete(vm, *p)) break;  // newer pages are nearer the other end
    page(vm, p);
  }
  commit(vm);
}

void doomed(VmState& vm, u32 space, Gfn gfn) {
  for (bool again = true; again;) {
    again = false;
    pages::for_each_indirect(vm, space, gfn, [&](ShadowPage& p) {
      if (!p.doomed) return true;
      page(vm, &p);  // may take others out of this bucket: start over
      again = true;
      return false;
    });
  }
}

void unprotect(VmState& vm, u32 space, Gfn gfn) {
  pages::for_each_indirect(vm, space, gfn, [&](ShadowPage& p) {
    count(vm, Event::kUnprotect, p);
    p.doomed = true;
    return true;
  });
  doomed(vm, space, gfn);
}

}  // namespace mmu::zap
