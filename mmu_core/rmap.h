#ifndef MMU_CORE_RMAP_H_
#define MMU_CORE_RMAP_H_

// Reverse chains: from a gfn to the leaf entries that map it, and from a
// shadow page to the entries that link it (KVM: pte_list_desc, parent_ptes).

#include "mmu_core/rmap_head.h"
#include "mmu_core/shadow_page.h"

namespace mmu {

class MemoryCaches;
class Platform;

struct RmapChain {
  static constexpr u32 kRefs = 14;
  RmapChain* more = nullptr;  // only the head may be partly filled
  u32 count = 0;
  u64 ref[kRefs] = {};  // SpteRef::pack
};

namespace chain {

void add(RmapHead& head, SpteRef ref, MemoryCaches& caches);
// False if `ref` is not there (a broken invariant of the caller's making).
bool remove(RmapHead& head, SpteRef ref, Platform& platform);
inline bool empty(const RmapHead& head) { return head.word == 0; }

// Any one of the refs. Precondition: not empty.
inline SpteRef front(const RmapHead& head) {
  if (head.word & 1) return SpteRef::unpack(head.word);
  const auto* c = reinterpret_cast<const RmapChain*>(head.word);
  return SpteRef::unpack(c->ref[c->count - 1]);
}

// Calls f(SpteRef) for each; f must not change the chain. Stops when f returns false.
template <class F>
void for_each(const RmapHead& head, F&& f) {
  if (!head.word) return;
  if (head.word & 1) {
    f(SpteRef::unpack(head.word));
    return;
  }
  for (const auto* c = reinterpret_cast<const RmapChain*>(head.word); c; c = c->more)
    for (u32 i = 0; i < c->count; ++i)
      if (!f(SpteRef::unpack(c->ref[i]))) return;
}

}  // namespace chain
}  // namespace mmu

#endif  // MMU_CORE_RMAP_H_
