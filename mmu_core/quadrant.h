#ifndef MMU_CORE_QUADRANT_H_
#define MMU_CORE_QUADRANT_H_

// Which guest entries stand behind which entries of an indirect shadow page.
//
// A table of 8-byte entries has one shadow page, entry for entry. One of 4-byte entries (32-bit
// paging) has 1024 of them, so several shadow pages, each for one quadrant of it:
//
//   page directory   1024 gptes of 4M     quadrant 0..3: 256 gptes each, two sptes (2M) a gpte
//   page table       1024 gptes of 4K     quadrant 0..1: 512 gptes each, one spte a gpte
//
// KVM: role.quadrant, FNAME(get_level1_sp_gpa), get_written_sptes.

#include "mmu_core/shadow_page.h"

namespace mmu::quadrant {

constexpr unsigned gpte_bytes(PageRole role) { return role.four_byte() ? 4 : 8; }

// Entries of the shadow page that one guest entry stands behind.
constexpr unsigned sptes_per_gpte(PageRole role) {
  return role.four_byte() && role.level() == 2 ? 2 : 1;
}

// Number, in the guest's table, of the entry behind spte `index`.
constexpr unsigned gpte_number(PageRole role, unsigned index) {
  const unsigned per = sptes_per_gpte(role);
  return (role.quadrant() * kEntries + index) / per;
}
constexpr u64 gpte_offset(PageRole role, unsigned index) {
  return u64{gpte_number(role, index)} * gpte_bytes(role);
}
inline Gpa gpte_gpa(const ShadowPage& page, unsigned index) {
  return page.gfn.base() + gpte_offset(page.role, index);
}

// The quadrant of the page that hangs below entry `index` of a page directory of 4-byte entries.
constexpr u8 of_child(unsigned index) { return static_cast<u8>(index & 1); }

// First gfn of what spte `index` of this page maps, if its guest entry maps `large` as one page:
// the second spte of a 4M entry maps its second half.
inline Gfn part_of_large(PageRole role, unsigned index, Gfn large) {
  return sptes_per_gpte(role) == 2 ? large + u64{index & 1} * pages_of_level(2) : large;
}

// The sptes [first, first + count) behind which the guest entry at `offset` of the table stands;
// count 0: that part of the table has another shadow page.
struct Span {
  unsigned first = 0, count = 0;
};
constexpr Span written(PageRole role, unsigned offset) {
  const unsigned per = sptes_per_gpte(role);
  const unsigned spte = offset / gpte_bytes(role) * per;
  if (spte / kEntries != role.quadrant()) return {};
  return {spte % kEntries, per};
}

}  // namespace mmu::quadrant

#endif  // MMU_CORE_QUADRANT_H_
