#ifndef MMU_CORE_TDP_FORMAT_H_
#define MMU_CORE_TDP_FORMAT_H_

// The entries of the second dimension as data: EPT and NPT differ in bits, not in what is done with
// them (KVM: spte.h and its shadow_*_mask).
//
//             63   62..59  58  57  56..54  53..52  51 ... 12  11  10   9   8    7   6   5..3   2  1
//             0
//   EPT leaf       ignored MW  HW  saved   A/D     frame      SP  UX   D   A   PS  IPT  type   X  W
//   R NPT leaf  XD                                   frame      SP  MW  HW   G   PS   D   A ..   U
//   W  P
//
// SP: present for the core (a leaf or a link). HW: the host lets the frame be written. MW: and
// nothing in the core forbids it for good, so that W may come back without more ado. saved: R and X
// while the entry is not present to the hardware, which is how an access is noticed where it sets
// no A.

#include "mmu_core/memslot.h"
#include "mmu_core/mmu.h"
#include "mmu_core/paging_mode.h"
#include "mmu_core/reserved_bits.h"
#include "mmu_core/x86.h"

namespace mmu::tdp {

inline constexpr u64 kPresent = bit(11);
// Nobody may touch the entry but who put this there. Not present to any hardware (0 in bits 2:0 and
// 10), nor to the core.
inline constexpr u64 kFrozen = bit(5) | bit(7) | bit(8);
inline constexpr u64 kLarge = pte::kPs;
inline constexpr u64 kAddress = pte::kAddress;

// EPT: the A/D kind of an entry, and R and X of one that tracks accesses.
inline constexpr u64 kAdDisabled = bit(52);
using SavedRx = Field<54, 56>;

// MMIO entries hold the gfn where a frame would be and some bits of the memslot generation. EPT: W
// and X without R is a misconfiguration. NPT: present with an address bit that no processor has.
using MmioGenLow = Field<3, 10>;
using MmioGenHigh = Field<52, 61>;
inline constexpr u64 kMmioGenMask = (u64{1} << (MmioGenLow::width + MmioGenHigh::width)) - 1;
static_assert(MmioGenLow::width + MmioGenHigh::width == kMmioGenerationBits);
inline constexpr u64 kNptMmioMark = bit(51);

struct Format {
  bool ept = true;
  bool ad = true;     // the hardware sets A and D
  u8 levels = 4;      // of the hardware's walk
  u8 gpa_bits = 48;   // what the tables can translate
  u8 largest = 3;     // level of the largest page
  u8 mmio_bits = 52;  // an MMIO entry can hold a gpa below this; 0: there are none
  u64 read = 0;       // EPT: R. NPT: P
  u64 write = 0;      // W
  u64 exec = 0;       // EPT: X, and UX with mode-based execute control
  u64 no_exec = 0;    // NPT: XD, if EFER.NXE
  u64 accessed = 0, dirty = 0;
  u64 host_writable = 0, mmu_writable = 0;
  u64 leaf = 0;  // in every leaf: EPT: write-back, ignore PAT. NPT: U
  u64 mmio = 0;  // what marks an MMIO entry, and where to look for it
  u64 mmio_mask = 0;
  ReservedBits reserved;

  // The bits by which the hardware takes an entry for present.
  u64 hardware() const { return ept ? read | write | exec : read; }
  friend bool operator==(const Format&, const Format&) = default;
};
// Precondition: config.translation is not kShadow.
Format make_format(const VmConfig& config);

inline bool is_present(u64 e) { return e & kPresent; }
inline bool is_frozen(u64 e) { return e == kFrozen; }
inline bool is_leaf(u64 e, unsigned level) { return is_present(e) && (level == 1 || (e & kLarge)); }
inline bool is_table(u64 e, unsigned level) { return is_present(e) && level > 1 && !(e & kLarge); }
inline Pfn pfn_of(u64 e) { return Pfn{(e & kAddress) >> 12}; }

inline bool is_writable(const Format& f, u64 e) { return e & f.write; }
inline bool is_executable(const Format& f, u64 e) { return f.ept ? e & f.exec : !(e & f.no_exec); }
inline bool in_hardware(const Format& f, u64 e) { return e & f.hardware(); }
inline bool is_mmio(const Format& f, u64 e) {
  return !is_present(e) && (e & f.mmio_mask) == f.mmio;
}
// Present, but taken from the hardware so that the next access is noticed.
inline bool tracks_access(const Format& f, u64 e) {
  return f.ept && is_present(e) && !in_hardware(f, e);
}

// Was it used since it became old? Without A an entry becomes old by being taken from the hardware.
inline bool was_accessed(const Format& f, u64 e) {
  return f.ad ? (e & f.accessed) != 0 : in_hardware(f, e);
}
inline bool permits(const Format& f, u64 e, bool write, bool fetch) {
  if (!in_hardware(f, e) || (write && !is_writable(f, e))) return false;
  return !fetch || is_executable(f, e);
}
// The leaf with the right to execute, hidden or not.
inline u64 executable(const Format& f, u64 e) {
  if (tracks_access(f, e)) return SavedRx::put(e, SavedRx::get(e) | bit(2));
  return (e | f.exec) & ~f.no_exec;
}
// A leaf that is not the hardware's until it is used again. W need not be saved: that it may come
// back is what mmu_writable says.
inline u64 tracking_access(const Format& f, u64 e) {
  return SavedRx::put(e, e & (f.read | f.exec) & SavedRx::mask >> 54) & ~f.hardware();
}
// The leaf as it was, but for W.
inline u64 untracked(const Format& f, u64 e) {
  const u64 rights = SavedRx::get(e);
  const u64 user_exec = rights & bit(2) ? f.exec : 0;
  return SavedRx::put(e, 0) | rights | user_exec;
}

struct LeafParts {
  Pfn pfn;  // aligned to the level
  unsigned level = 1;
  bool host_writable = false;
  bool writable = false;  // W at once; needs host_writable and mmu_writable
  bool mmu_writable = false;
  bool executable = true;
};
// A is set from the start, D with W.
u64 make_leaf(const Format& f, const LeafParts& parts);
u64 make_table(const Format& f, Hpa table, unsigned level);  // a link in a table of `level`

inline bool mmio_possible(const Format& f, Gfn gfn) {
  return f.mmio_bits && gfn.raw >> (f.mmio_bits - 12) == 0;
}
u64 make_mmio(const Format& f, Gfn gfn, u64 generation);
inline u64 mmio_generation(u64 e) {
  return MmioGenHigh::get(e) << MmioGenLow::width | MmioGenLow::get(e);
}
inline Gfn mmio_gfn(const Format& f, u64 e) { return Gfn{(e & bits(12, f.mmio_bits - 1u)) >> 12}; }

// Does replacing `was` by `now` owe the hardware a flush? Whatever narrows or redirects does, and
// where D counts its loss.
bool change_owes_flush(const Format& f, u64 was, u64 now);

// EPT_POINTER, or nCR3 (SDM 3C "Extended-Page-Table Pointer (EPTP)"; APM 2 "Nested Paging").
u64 pointer(const Format& f, Hpa root);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_FORMAT_H_
