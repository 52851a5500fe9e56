#ifndef MMU_CORE_SHADOW_WALK_H_
#define MMU_CORE_SHADOW_WALK_H_

#include "mmu_core/entries.h"

namespace mmu {

// Visits the entries of the shadow tree that translates gva under `root`, on the path of gva, root
// first, through links only: f(SpteRef) returns false to stop. f may change the entry that it is
// given; the walk goes on through what it holds afterwards.
template <class F>
void shadow_walk(const Root& root, Gva gva, F&& f) {
  for (ShadowPage* page = root.page_for(gva); page;) {
    const unsigned level = page->role.level();
    const SpteRef ref{page, shadow_index(gva, level)};
    if (!f(ref)) return;
    const u64 s = entries::load(ref);
    if (!spte::is_present(s) || spte::is_leaf(s, level)) return;
    page = page->child(ref.index);
  }
}

}  // namespace mmu

#endif  // MMU_CORE_SHADOW_WALK_H_
