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

}  // namespace

ReservedBits guest_reserved_bits(const PagingMode& mode, const Capabilities& caps,
                                 bool nx_enabled) {
  ReservedBits reserved;
  const u64 every_entry = bits(caps.maxphyaddr, 51) | (nx_enabled ? 0 : pte::kXd);
  for (unsigned level = 1; level <= mode.levels; ++level) {
    u64& table = reserved.table[level - 1];
    u64& large = reserved.large[level - 1];
    table = every_entry;
    // AMD defines bit 8 (G) of an entry that cannot map a page as must-be-zero; Intel ignores it.
    if (level >= 4 && caps.vendor == Vendor::kAmd) table |= pte::kG;
    const bool allowed = level > 1 && large_page_allowed(mode, level, caps);
    large = allowed ? every_entry | misaligned_frame(mode.level[level - 1]) : kNoLargePage;
  }
  return reserved;
}

ReservedBits shadow_reserved_bits(const Capabilities& caps) {
  Capabilities host = caps;
  host.maxphyaddr = caps.host_maxphyaddr;
  host.gbpages = true;
  return guest_reserved_bits(k5Level, host, true);
}

}  // namespace mmu
