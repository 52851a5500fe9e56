#include "mmu_core/reserved_bits.h"

#include "mmu_core/x86.h"

namespace mmu {
namespace {

constexpr u64 kNoLargePage = ~u64{0};  // PS = 1 itself is the violation

// Bits of a large entry's frame number that lie below its size; bit 12 is PAT.
constexpr u64 misaligned_frame(const Level& level) { return bits(13, level.index_lo - 1u); }
static_assert(misaligned_frame(k4Level.level[1]) == bits(13, 20));
static_assert(misaligned_frame(k4Level.level[2]) == bits(13, 29));

bool large_page_allowed(const PagingMode& mode, unsigned level, const Capabilities& caps) {
  return mode.level[level - 1].may_map_page && (level < 3 || caps.gbpages);
}

// A 4M entry: with PSE-36 bits 20:13 hold bits 39:32 of the frame, of which the processor has those
// below M = min(40, MAXPHYADDR). Without it they are 0, as is bit 21 (SDM 3A "32-Bit Paging").
u64 reserved_in_4m(const Capabilities& caps) {
  if (!caps.pse36) return bits(13, 21);
  const unsigned m = caps.maxphyaddr < 40 ? caps.maxphyaddr : 40;
  return bits(m - 19, 21);
}

// 4-byte entries have no reserved bit but in one that maps 4M.
ReservedBits reserved_in_32bit(const Capabilities& caps, bool pse) {
  ReservedBits reserved;
  if (pse) reserved.large[1] = reserved_in_4m(caps);
  return reserved;
}

// Physical-address bits beyond MAXPHYADDR; PAE paging reserves all others up to XD as well.
u64 reserved_in_every_entry(const PagingMode& mode, const Capabilities& caps, bool nx_enabled) {
  const unsigned last = mode.kind == Paging::kPae ? 62 : 51;
  return bits(caps.maxphyaddr, last) | (nx_enabled ? 0 : pte::kXd);
}

}  // namespace

ReservedBits guest_reserved_bits(const PagingMode& mode, const Capabilities& caps, bool nx_enabled,
                                 bool pse) {
  if (mode.kind == Paging::k32Bit) return reserved_in_32bit(caps, pse);
  ReservedBits reserved;
  const u64 every_entry = reserved_in_every_entry(mode, caps, nx_enabled);
  for (unsigned level = 1; level <= mode.levels; ++level) {
    reserved.table[level - 1] = every_entry;
    reserved.large[level - 1] = kNoLargePage;
  }
  for (unsigned level = 2; level <= mode.levels && large_page_allowed(mode, level, caps); ++level)
    reserved.large[level - 1] = every_entry | misaligned_frame(mode.level[level - 1]);
  // AMD defines bit 8 (G) of an entry that cannot map a page as must-be-zero; Intel ignores it.
  if (caps.vendor == Vendor::kAmd)
    for (unsigned level = 4; level <= mode.levels; ++level) reserved.table[level - 1] |= pte::kG;
  return reserved;
}

u64 pdpte_reserved_bits(const Capabilities& caps) {
  return bits(1, 2) | bits(5, 8) | bits(caps.maxphyaddr, 63);
}

ReservedBits shadow_reserved_bits(const Capabilities& caps) {
  Capabilities host = caps;
  host.maxphyaddr = caps.host_maxphyaddr;
  host.gbpages = true;
  return guest_reserved_bits(k5Level, host, true, false);
}

}  // namespace mmu
