#ifndef MMU_CORE_RESERVED_BITS_H_
#define MMU_CORE_RESERVED_BITS_H_

// Which bits of a present entry must be 0, by level and by whether PS is set
// (KVM: struct rsvd_bits_validate). Built for guest entries and for the core's own.

#include "mmu_core/mmu.h"
#include "mmu_core/paging_mode.h"

namespace mmu {

struct ReservedBits {
  u64 table[kMaxLevels] = {};  // [level - 1], PS = 0 (or level 1)
  u64 large[kMaxLevels] = {};  // [level - 1], PS = 1; all ones where PS itself is reserved

  friend bool operator==(const ReservedBits&, const ReservedBits&) = default;
  // `entry` is present; level 1..5.
  bool violates(u64 entry, unsigned level) const {
    const bool ps = level > 1 && (entry & (u64{1} << 7));
    return (entry & (ps ? large : table)[level - 1]) != 0;
  }
};

// SDM 3A, tables of reserved bits in the section "Page-Fault Exceptions" and the entry formats; AMD
// APM 2 "Page-Translation-Table Entry Fields". `pse`: CR4.PSE, which counts in 32-bit paging only.
// Nothing for a PAE PDPTE, which is a register.
ReservedBits guest_reserved_bits(const PagingMode& mode, const Capabilities& caps, bool nx_enabled,
                                 bool pse);
// Of a present PAE PDPTE (SDM 3A "PDPTE Registers").
u64 pdpte_reserved_bits(const Capabilities& caps);
// In the core's own entries while the hardware walks them as a PAE table: there bits 62:52 are not
// ignored.
inline constexpr u64 kOwnReservedInPae = u64{0x7ff} << 52;
// For the core's own (shadow) entries: the host's width, NX always available, 1G allowed.
ReservedBits shadow_reserved_bits(const Capabilities& caps);

}  // namespace mmu

#endif  // MMU_CORE_RESERVED_BITS_H_
