#ifndef MMU_CORE_SHADOW_PAGE_H_
#define MMU_CORE_SHADOW_PAGE_H_

// A shadow page: one table that the hardware walks, and what the core knows of it.
//
//   ShadowPage ──spt──► 512 sptes (hardware's view)
//      │ └──── info ──► 512 words: child page (non-leaf) or gfn and rights (leaf)
//      ├── gfn, role    what it shadows; the key of the hash
//      ├── parents ───► SpteRefs that link to it        (inverse of info's children)
//      ├── unsync / unsync_children + bitmap            level-1 tables the guest may write behind
//      our back └── root_count, generation, links of hash and active list
//
// KVM: struct kvm_mmu_page.

#include "mmu_core/rmap_head.h"
#include "mmu_core/role.h"
#include "mmu_core/types.h"

namespace mmu {

inline constexpr unsigned kEntries = 512;

struct ShadowPage;

// Where the hardware, which walks 512 entries at every level, looks for gva in a shadow table.
constexpr unsigned shadow_index(Gva gva, unsigned level) {
  return static_cast<unsigned>(gva.raw >> (12 + 9 * (level - 1))) & (kEntries - 1);
}

// One entry of one shadow page, packed into a word: object addresses lie below 2^47.
struct SpteRef {
  ShadowPage* page = nullptr;
  unsigned index = 0;
  u64 pack() const { return reinterpret_cast<u64>(page) << 10 | u64{index} << 1 | 1; }
  static SpteRef unpack(u64 w) {
    return {reinterpret_cast<ShadowPage*>(w >> 10), static_cast<unsigned>(w >> 1) & 511};
  }
  friend bool operator==(SpteRef, SpteRef) = default;
};

// Kept apart from the descriptor, since scans of descriptors are frequent and those of entries are
// not.
struct EntryInfo {
  u64 word[kEntries];  // leaf: gfn << 3 | acc bits; non-leaf: ShadowPage* of the child
  // Guest entry as the core last read it for this spte; only meaningful where the spte is not 0,
  // and only for the audit, which cannot otherwise tell a bug from an unannounced host edit.
  u64 seen[kEntries];
};

struct ShadowPage {
  Gfn gfn;  // indirect: frame of the guest table; direct: first gfn of the range
  PageRole role;
  u64* spt = nullptr;
  Hpa hpa;
  EntryInfo* info = nullptr;
  ShadowPage* hash_next = nullptr;
  ShadowPage* prev = nullptr;  // active list, newest first
  ShadowPage* next = nullptr;
  RmapHead parents;
  u64 generation = 0;
  u32 root_count = 0;
  u32 write_flood = 0;             // emulated writes since the page was last used by a walk
  u32 used = 0;                    // entries that are not 0
  u64 filled[kEntries / 64] = {};  // which
  bool doomed = false;             // marked within one operation to be zapped at its end
  bool unsync = false;
  u32 unsync_children = 0;  // bits set in unsync_bitmap
  u64 unsync_bitmap[kEntries / 64] = {};

  bool has_gptes() const { return !role.direct(); }
  // Calls f(index) for each entry that is not 0; f may empty the entry that it is given.
  template <class F>
  void for_each_filled(F&& f) const {
    for (unsigned w = 0; w < kEntries / 64; ++w)
      for (u64 left = filled[w]; left; left &= left - 1)
        f(w * 64 + static_cast<unsigned>(__builtin_ctzll(left)));
  }
  // First 4K gfn that entry `index` of a direct page maps.
  Gfn direct_gfn(unsigned index) const { return gfn + (u64{index} << (9 * (role.level() - 1))); }
  Gfn leaf_gfn(unsigned index) const {
    return role.direct() ? direct_gfn(index) : Gfn{info->word[index] >> 3};
  }
  u8 leaf_access(unsigned index) const {
    return role.direct() ? role.access() : static_cast<u8>(info->word[index] & acc::kAll);
  }
  void set_leaf(unsigned index, Gfn g, u8 access) { info->word[index] = g.raw << 3 | access; }
  ShadowPage* child(unsigned index) const {
    return reinterpret_cast<ShadowPage*>(info->word[index]);
  }
  void set_child(unsigned index, ShadowPage* c) { info->word[index] = reinterpret_cast<u64>(c); }
};

}  // namespace mmu

#endif  // MMU_CORE_SHADOW_PAGE_H_
