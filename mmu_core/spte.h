#ifndef MMU_CORE_SPTE_H_
#define MMU_CORE_SPTE_H_

// The core's own entries: layout, constructors and predicates (KVM: spte.h).

#include "mmu_core/memslot.h"
#include "mmu_core/shadow_page.h"
#include "mmu_core/x86.h"

namespace mmu::spte {

// Software bits, ignored by the hardware's walk.
inline constexpr u64 kHostWritable = bit(9);  // the host lets the frame be written
inline constexpr u64 kMmuWritable = bit(10);  // and nothing in the core forbids it
inline constexpr u64 kPresent = bit(11);  // shadow-present: in the reverse map or linking a child

// An MMIO entry is hardware-present with a reserved bit, so that every access faults with RSVD and
// the exit needs no guest walk. It holds the gfn (51:12 below kMmioMark), rights in W, U and XD,
// and 18 bits of the memslot generation.
inline constexpr u64 kMmioMark = bit(51);
using MmioGenLow = Field<3, 10>;
using MmioGenHigh = Field<52, 61>;
inline constexpr u64 kMmioGenMask = (u64{1} << (MmioGenLow::width + MmioGenHigh::width)) - 1;
static_assert(MmioGenLow::width + MmioGenHigh::width == kMmioGenerationBits);

inline bool is_present(u64 s) { return s & kPresent; }
inline bool is_large(u64 s) { return s & pte::kPs; }
inline bool is_leaf(u64 s, unsigned level) { return level == 1 || is_large(s); }
inline bool is_writable(u64 s) { return s & pte::kW; }
inline Pfn pfn_of(u64 s) { return Pfn{(s & pte::kAddress) >> 12}; }
inline bool is_mmio(u64 s) { return !is_present(s) && (s & pte::kP) && (s & kMmioMark); }

// Non-leaf entries grant everything: rights are enforced in the leaf, through the role of the page
// that holds it.
inline u64 make_nonleaf(Hpa table) {
  return table.raw | pte::kP | pte::kW | pte::kU | pte::kA | kPresent;
}

struct LeafParts {
  Pfn pfn;
  unsigned level = 1;
  u8 access = 0;  // acc:: bits to grant
  u8 pkey = 0;    // guest's protection key, 0 unless CR4.PKE
  bool host_writable = false;
};
// W is granted only if `access` has it and the host allows it; A is set from the start, D with W
// (KVM: make_spte).
inline u64 make_leaf(const LeafParts& p) {
  u64 s = p.pfn.base().raw | pte::kP | pte::kA | kPresent;
  if (p.level > 1) s |= pte::kPs;
  if (p.access & acc::kU) s |= pte::kU;
  if (!(p.access & acc::kX)) s |= pte::kXd;
  if (p.host_writable) s |= kHostWritable;
  if ((p.access & acc::kW) && p.host_writable) s |= pte::kW | kMmuWritable | pte::kD;
  return pte::Pkey::put(s, p.pkey);
}
inline u64 without_write(u64 s) { return s & ~(pte::kW | kMmuWritable); }

// True if an MMIO entry can be told from a translation: some address bit is beyond the host's width
// and the gfn does not reach it.
inline bool mmio_possible(Gfn gfn, u8 host_maxphyaddr) {
  return host_maxphyaddr <= 51 && (gfn.base().raw & ~bits(12, 50)) == 0;
}
inline u64 make_mmio(Gfn gfn, u8 access, u64 generation) {
  u64 s = gfn.base().raw | kMmioMark | pte::kP;
  if (access & acc::kW) s |= pte::kW;
  if (access & acc::kU) s |= pte::kU;
  if (!(access & acc::kX)) s |= pte::kXd;
  s = MmioGenLow::put(s, generation & MmioGenLow::mask >> 3);
  return MmioGenHigh::put(s,
                          generation >> MmioGenLow::width & ((u64{1} << MmioGenHigh::width) - 1));
}
inline u64 mmio_generation(u64 s) {
  return MmioGenHigh::get(s) << MmioGenLow::width | MmioGenLow::get(s);
}
inline Gfn mmio_gfn(u64 s) { return Gfn{(s & bits(12, 50)) >> 12}; }
// What a leaf, or an MMIO entry, grants.
inline u8 access_of(u64 s) {
  return static_cast<u8>((s & pte::kW ? acc::kW : 0) | (s & pte::kU ? acc::kU : 0) |
                         (s & pte::kXd ? 0 : acc::kX));
}

// Does replacing `was` by `now` owe the hardware a flush? Whatever narrows or redirects does (KVM:
// leaf_spte_change_needs_tlb_flush and need_remote_flush).
inline bool change_owes_flush(u64 was, u64 now) {
  if (!(was & pte::kP) || is_mmio(was)) return false;
  if (!(now & pte::kP) || is_mmio(now)) return true;
  const u64 rights = pte::kW | pte::kU;
  if ((was & rights) & ~now) return true;
  if ((now & ~was) & pte::kXd) return true;
  if ((was ^ now) & (pte::kAddress | pte::kPs | pte::Pkey::mask)) return true;
  // Under SMEP and SMAP granting U takes rights away from the supervisor.
  return (now & ~was) & pte::kU;
}

}  // namespace mmu::spte

#endif  // MMU_CORE_SPTE_H_
