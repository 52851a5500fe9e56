#include "mmu_core/page_cache.h"

#include "mmu_core/counters.h"
#include "mmu_core/flush.h"
#include "mmu_core/sync.h"
#include "mmu_core/tracking.h"
#include "mmu_core/zap.h"

namespace mmu::pages {
namespace {

ShadowPage* find(VcpuState& vcpu, Gfn gfn, PageRole role) {
  VmState& vm = *vcpu.vm;
  ShadowPage* next = nullptr;
  for (ShadowPage* p = vm.pages.hash.chain(gfn); p; p = next) {
    next = p->hash_next;
    if (p->gfn != gfn || is_obsolete(vm, *p)) continue;
    if (p->role != role) {
      // The guest starts to use the frame as an upper table: what was unsync there would escape
      // write tracking.
      if (role.level() > 1 && !role.direct() && p->unsync && p->role.space() == role.space()) {
        count(vm, Event::kUpperZapsUnsync, *p);
        zap::page(vm, p);
      }
      continue;
    }
    if (p->unsync) {
      // Good but stale: brought up to date, not write-protected, and still marked unsync, so that
      // the cost of protection falls due only when the guest invalidates.
      count(vm, Event::kHashSync, *p);
      if (!sync::page(vcpu, *p)) {
        zap::page(vm, p);
        return nullptr;
      }
    }
    p->write_flood = 0;
    return p;
  }
  return nullptr;
}

}  // namespace

void insert(VmState& vm, ShadowPage* page) {
  PageCache& c = vm.pages;
  ShadowPage*& head = c.hash.chain(page->gfn);
  page->hash_next = head;
  head = page;
  page->prev = nullptr;
  page->next = c.newest;
  (c.newest ? c.newest->prev : c.oldest) = page;
  c.newest = page;
  ++c.used;
  if (page->has_gptes()) ++c.indirect;
}

void remove_from_hash(VmState& vm, ShadowPage* page) {
  ShadowPage** link = &vm.pages.hash.chain(page->gfn);
  while (*link && *link != page) link = &(*link)->hash_next;
  if (!*link) vm.platform.panic("page missing from the hash");
  *link = page->hash_next;
}

void remove_from_list(VmState& vm, ShadowPage* page) {
  PageCache& c = vm.pages;
  (page->prev ? page->prev->next : c.newest) = page->next;
  (page->next ? page->next->prev : c.oldest) = page->prev;
  page->prev = page->next = nullptr;
  --c.used;
  if (page->has_gptes()) --c.indirect;
}

ShadowPage* get(VcpuState& vcpu, Gfn gfn, PageRole role) {
  VmState& vm = *vcpu.vm;
  if (ShadowPage* p = find(vcpu, gfn, role)) {
    count(vm, Event::kHashHit, *p);
    return p;
  }
  ShadowPage* p = vcpu.caches.take_page();
  p->gfn = gfn;
  p->role = role;
  p->generation = vm.pages.generation;
  insert(vm, p);
  if (p->has_gptes()) tracking::shadow(vcpu, *p);
  ++vm.stats.shadow_pages;
  count(vm, Event::kHashMiss, *p);
  return p;
}

}  // namespace mmu::pages
