#include "mmu_core/reserved_bits.h"

#include <gtest/gtest.h>

namespace mmu {
namespace {

struct Machine {
  unsigned maxphyaddr;
  bool nx, gbpages, amd;
};

// One bit of one entry, told from the entry formats (SDM 3A, figure "Formats of CR3 and
// Paging-Structure Entries with 4-Level Paging"; AMD APM 2 "Page-Translation-Table Entry Fields").
// `ps`: the entry has PS = 1, level > 1.
bool bit_is_reserved(const Machine& m, unsigned level, bool ps, unsigned bit) {
  if (ps && level >= 4) return bit == 7;                // PS cannot be set at all
  if (ps && level == 3 && !m.gbpages) return bit == 7;  // nor here without 1G pages
  if (bit == 63) return !m.nx;
  if (bit >= 52) return false;  // ignored, or the protection key
  if (bit >= m.maxphyaddr) return true;
  if (ps && bit >= 13 && bit <= (level == 2 ? 20u : 29u)) return true;
  return m.amd && level >= 4 && bit == 8;
}

Capabilities caps_of(const Machine& m) {
  Capabilities caps;
  caps.maxphyaddr = static_cast<u8>(m.maxphyaddr);
  caps.gbpages = m.gbpages;
  caps.vendor = m.amd ? Vendor::kAmd : Vendor::kIntel;
  return caps;
}

// What an entry with P, `bit` and perhaps PS set must give: the bit's own fault, or that of PS.
bool entry_is_reserved(const Machine& m, unsigned level, bool ps, unsigned bit) {
  const bool large = level > 1 && (ps || bit == 7);
  return bit_is_reserved(m, level, large, bit) || (large && bit_is_reserved(m, level, true, 7));
}

template <class F>
void for_each_machine(F f) {
  for (unsigned maxphyaddr = 36; maxphyaddr <= 52; ++maxphyaddr) {
    for (unsigned flags = 0; flags < 8; ++flags) {
      f(Machine{maxphyaddr, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0});
    }
  }
}

TEST(GuestReservedBits, EveryBitOfEveryEntryOnEveryMachine) {
  unsigned violations = 0;
  for_each_machine([&](const Machine& m) {
    for (const PagingMode* mode : {&k4Level, &k5Level}) {
      const ReservedBits reserved = guest_reserved_bits(*mode, caps_of(m), m.nx, false);
      for (unsigned level = 1; level <= mode->levels; ++level) {
        for (unsigned ps = 0; ps <= (level > 1 ? 1u : 0u); ++ps) {
          for (unsigned bit = 0; bit < 64; ++bit) {
            const u64 entry = u64{1} | u64{ps} << 7 | u64{1} << bit;
            const bool expected = entry_is_reserved(m, level, ps != 0, bit);
            ASSERT_EQ(reserved.violates(entry, level), expected)
                << "maxphyaddr=" << m.maxphyaddr << " nx=" << m.nx << " gbpages=" << m.gbpages
                << " amd=" << m.amd << " level=" << level << " ps=" << ps << " bit=" << bit;
            violations += expected;
          }
        }
      }
    }
  });
  EXPECT_GT(violations, 0u);
}

TEST(GuestReservedBits, AllIgnoredBitsTogetherAreNoViolation) {
  for_each_machine([](const Machine& m) {
    const ReservedBits reserved = guest_reserved_bits(k4Level, caps_of(m), m.nx, false);
    for (unsigned level = 1; level <= 4; ++level) {
      for (const bool ps : {false, true}) {
        if (ps && (level == 1 || level == 4 || (level == 3 && !m.gbpages))) continue;
        u64 entry = ps ? 0x80 : 0;
        for (unsigned bit = 0; bit < 64; ++bit) {
          if (bit == 7 && level > 1) continue;
          if (!bit_is_reserved(m, level, ps, bit)) entry |= u64{1} << bit;
        }
        EXPECT_FALSE(reserved.violates(entry, level)) << "level " << level << " ps " << ps;
      }
    }
  });
}

TEST(ShadowReservedBits, HostWidthWithNxAnd1G) {
  Capabilities caps;
  caps.maxphyaddr = 36;
  caps.host_maxphyaddr = 46;
  caps.gbpages = false;
  const ReservedBits reserved = shadow_reserved_bits(caps);
  EXPECT_FALSE(reserved.violates(1 | u64{1} << 45, 1));
  EXPECT_TRUE(reserved.violates(1 | u64{1} << 46, 1));
  EXPECT_FALSE(reserved.violates(1 | u64{1} << 63, 1));
  EXPECT_FALSE(reserved.violates(0x81 | u64{1} << 30, 3));
  EXPECT_TRUE(reserved.violates(0x81 | u64{1} << 29, 3));
  EXPECT_TRUE(reserved.violates(0x81, 4));
  EXPECT_FALSE(reserved.violates(1, 5));
}

}  // namespace
}  // namespace mmu
