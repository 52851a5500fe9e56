#ifndef TWINWALK_FUZZERS_POOLS_H_
#define TWINWALK_FUZZERS_POOLS_H_

// The few addresses that generated traces use. Small on purpose: what two operations pick must
// often be the same page, the same table or the same upper entry, or nothing interesting collides.

#include <cstdint>

#include "harness/trace/machine.h"

namespace twinwalk::fuzz {

inline constexpr std::uint64_t kPage = 4096;
inline constexpr std::uint64_t kMib = 1u << 20;

// Linear regions. The first five share upper tables two by two; the last page of the lower half and
// the top page are where an access that crosses a page ends or wraps.
inline constexpr std::uint64_t kRegions[] = {
    0x0000'0000'0000'0000, 0x0000'0000'0020'0000, 0x0000'0000'4000'0000, 0x0000'0080'0000'0000,
    0xffff'9234'0000'0000, 0xffff'9234'0020'0000, 0x0000'7fff'ffff'e000, 0xffff'ffff'ffff'e000,
};
// The same in 32 bits: both halves of a 4M region, neighbours in a page directory, other PDPTEs,
// and the last pages, where an access wraps. With paging off those in memory are what there is.
inline constexpr std::uint64_t kLegacyRegions[] = {
    0x0000'0000, 0x0020'0000, 0x0040'0000, 0x4000'0000,
    0x7fff'e000, 0x8020'0000, 0x8000'0000, 0xffff'e000,
};
// Of 5 levels: two PML5Es, what 4 levels share with it, and the ends of both halves.
inline constexpr std::uint64_t kWideRegions[] = {
    0x0000'0000'0000'0000, 0x0000'0000'0020'0000, 0x0001'0000'0000'0000, 0x0000'8000'0000'0000,
    0xff34'9234'0000'0000, 0xffff'9234'0020'0000, 0x00ff'ffff'ffff'e000, 0xffff'ffff'ffff'e000,
};
inline constexpr std::uint64_t kPageSteps[] = {0, 0, 0, kPage, 2 * kPage, 0x1ff * kPage};
inline constexpr std::uint64_t kInPage[] = {0, 0, 0, 8, 0x123 & ~7u, 0xff8, 0xffc, 0xffe, 0xfff};

// Where the generator maps guest-physical [0, 2M), and with it every table and root, so that plain
// guest stores reach paging-structure entries.
inline constexpr std::uint64_t kDirectMap = 0xffff'8880'0000'0000;
inline constexpr std::uint64_t kLegacyDirectMap = 0xc000'0000;
constexpr std::uint64_t direct_map(Mode mode) {
  if (mode == Mode::kNone) return 0;
  return mode == Mode::k4Level || mode == Mode::k5Level ? kDirectMap : kLegacyDirectMap;
}
inline constexpr std::uint64_t kDirectMapSize = 2 * kMib;

// Data frames. The last two lie on either side of a 2M boundary.
inline constexpr std::uint64_t kFrames[] = {0x5000,   0x6000,   0x7000,  0x200000,
                                            0x201000, 0x3ff000, 0x400000};
// 2M-aligned frames for large pages; the first one holds the tables themselves.
inline constexpr std::uint64_t kLargeFrames[] = {0x000000, 0x200000, 0x200000, 0x400000, 0x600000};
// No memslot is there at the start, whatever the machine.
inline constexpr std::uint64_t kDevices[] = {0xfee0'0000, 0x8'0000'0000};

// Bits of an entry that leads to a table with all rights.
inline constexpr std::uint64_t kLinkBits = pte::kP | pte::kW | pte::kU | pte::kA;

// Root tables. All lie within the direct map; those outside the pool leave it to `map`.
inline constexpr std::uint64_t kRoots[] = {kInitialCr3, 0x80000, 0x81000, 0x82000, 0x13f000};
inline constexpr std::uint64_t kPcids[] = {0, 1, 2, 0xfff};

// Memslots that a trace adds: where in gpa, and what of host memory behind. The first hva is that
// of the frames above, so that two slots alias.
inline constexpr std::uint64_t kSlotGpas[] = {0x8'0000'0000, 0x5000, 0x1'0000'0000, 0xfee0'0000,
                                              0x200000};
inline constexpr std::uint64_t kSlotHvas[] = {kHvaBase + 0x5000, kHvaBase + 0x200000,
                                              kHvaBase + kTablePool, kHvaBase + 0x4000'0000};
inline constexpr std::uint64_t kSlotPages[] = {1, 2, 3, 16, 512};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_POOLS_H_
