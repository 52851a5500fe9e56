#ifndef MMU_CORE_PAGE_CACHE_H_
#define MMU_CORE_PAGE_CACHE_H_

// Shadow pages by (gfn, role): lookup with sync on hit, creation, and the
// active list (KVM: kvm_mmu_find_shadow_page, kvm_mmu_alloc_shadow_page).

#include "mmu_core/state.h"

namespace mmu::pages {

// The valid page for exactly this gfn and role, in step with its guest table or freshly synced (an
// unsync page that is found is brought up to date but stays unsync); a new one if there is none.
// Precondition: caches topped up; gfn has a memslot if the role is indirect.
ShadowPage* get(VcpuState& vcpu, Gfn gfn, PageRole role);

void insert(VmState& vm, ShadowPage* page);  // into hash and active list
void remove_from_hash(VmState& vm, ShadowPage* page);
void remove_from_list(VmState& vm, ShadowPage* page);

inline bool is_obsolete(const VmState& vm, const ShadowPage& page) {
  return page.role.invalid() || page.generation != vm.pages.generation;
}

// Valid pages that shadow a guest table in `gfn` of an address space. f(ShadowPage&) returns false
// to stop; it may zap the page that it is given and nothing else of this gfn.
template <class F>
void for_each_indirect(VmState& vm, u32 space, Gfn gfn, F&& f) {
  if (!vm.pages.indirect) return;
  ShadowPage* next = nullptr;
  for (ShadowPage* p = vm.pages.hash.chain(gfn); p; p = next) {
    next = p->hash_next;
    if (p->gfn != gfn || p->role.space() != space) continue;
    if (p->has_gptes() && !is_obsolete(vm, *p) && !f(*p)) return;
  }
}

}  // namespace mmu::pages

#endif  // MMU_CORE_PAGE_CACHE_H_
