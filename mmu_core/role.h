#ifndef MMU_CORE_ROLE_H_
#define MMU_CORE_ROLE_H_

// What a shadow page is for: one comparable word (KVM: union kvm_mmu_page_role).
// Two guests' uses of one frame share a shadow page only if the whole word is equal.

#include "mmu_core/bits.h"
#include "mmu_core/paging_mode.h"

namespace mmu {

// Rights, as accumulated along a walk. Execute is a positive right here.
namespace acc {
inline constexpr u8 kX = 1, kW = 2, kU = 4, kAll = 7;
}  // namespace acc

struct PageRole {
  u64 word = 0;

  using Level = Field<0, 3, u8>;          // 1 = its entries are 4K leaves
  using Direct = Field<4, 4, bool>;       // gfn range, not a guest table
  using Access = Field<5, 7, u8>;         // rights of the path down to this page
  using Invalid = Field<8, 8, bool>;      // zapped, waiting for its last root reference
  using FourByte = Field<9, 9, bool>;     // guest entries of 4 bytes
  using Quadrant = Field<10, 11, u8>;     // which part of a 4-byte table
  using Nx = Field<12, 12, bool>;         // EFER.NXE
  using Wp = Field<13, 13, bool>;         // CR0.WP
  using SmepNotWp = Field<14, 14, bool>;  // CR4.SMEP && !CR0.WP
  using SmapNotWp = Field<15, 15, bool>;
  using AdDisabled = Field<16, 16, bool>;
  using GuestMode = Field<17, 17, bool>;
  using Smm = Field<18, 18, bool>;
  using Pke = Field<19, 19, bool>;  // CR4.PKE: entries carry the guest's protection key
  using Pkey = Field<20, 23, u8>;   // direct pages: protection key of the guest's large page
  // The guest's paging mode: its reserved bits and its leaf decision differ from the next one's, so
  // that what was shadowed in one mode says nothing in another.
  using GuestPaging = Field<24, 26, Paging>;
  using Pse = Field<27, 27, bool>;  // 4-byte entries: CR4.PSE, by which PS counts

  constexpr u8 level() const { return Level::get(word); }
  constexpr bool direct() const { return Direct::get(word); }
  constexpr u8 access() const { return Access::get(word); }
  constexpr bool invalid() const { return Invalid::get(word); }
  constexpr bool four_byte() const { return FourByte::get(word); }
  constexpr u32 space() const { return Smm::get(word) ? 1 : 0; }  // see address_space.h
  constexpr u8 quadrant() const { return Quadrant::get(word); }
  template <class F, class V>
  constexpr void set(V v) {
    word = F::put(word, v);
  }
  template <class F>
  constexpr auto get() const {
    return F::get(word);
  }
  friend bool operator==(PageRole, PageRole) = default;
};

}  // namespace mmu

#endif  // MMU_CORE_ROLE_H_
