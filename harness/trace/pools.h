#ifndef TWINWALK_HARNESS_TRACE_POOLS_H_
#define TWINWALK_HARNESS_TRACE_POOLS_H_

// Small sets of addresses from which fuzzed traces draw, so that pages, tables
// and frames collide. A selector byte names a page: its high nibble a group, its low nibble a
// page of that group. The last two selectors are escapes of the binary form and name no page of
// their own.

#include <array>
#include <cstdint>
#include <optional>

#include "harness/trace/machine.h"

namespace twinwalk::pool {

inline constexpr unsigned kEscapeOffset = 0xfe, kEscapeWhole = 0xff;

struct Group {
  std::uint64_t base, stride;
};
using Groups = std::array<Group, 16>;

inline constexpr std::uint64_t k4K = 1u << 12, k2M = 1u << 21, k1G = 1u << 30,
                               k512G = std::uint64_t{1} << 39;

// Guest-physical pages. The first 64 are the tables that `map` takes.
inline constexpr Groups kGpa = {
    {{kTablePool, k4K},
     {kTablePool + 16 * k4K, k4K},
     {kTablePool + 32 * k4K, k4K},
     {kTablePool + 48 * k4K, k4K},
     {0, k4K},  // data
     {16 * k4K, k4K},
     {k2M, k4K},  // inside a 2M page
     {k2M + 16 * k4K, k4K},
     {0, k2M},
     {64 * (1u << 20) - 8 * k4K, k4K},  // both sides of the usual end of memory
     {k1G, k4K},                        // no memory there at first
     {0xfee0'0000, k4K},
     {std::uint64_t{1} << 36, std::uint64_t{1} << 36},  // around MAXPHYADDR
     {2 * k2M, k4K},
     {0, k1G},
     {kTablePool - 8 * k4K, k4K}}};

// Guest-linear pages. The last three groups are windows of a self-map at index 493 of a 4-level
// root. Outside 4- and 5-level mode the low 32 bits count: the groups then are pages at the ends of
// the 4 GiB, in every gigabyte, in both halves of a 4M region, and below the first pages.
// kNotCanonical gives each page a meaning in every mode: with 4 levels none is canonical, with 5
// levels each has its own index in the root (the last is not canonical either), and of the low 32
// bits the second is the page directory that maps itself at index 768.
inline constexpr std::uint64_t kNotCanonical = 0x0000'8000'0000'0000,
                               kNotCanonicalStride = 0x0012'0000'c030'0000;
inline constexpr Groups kGva = {{{0, k4K},
                                 {16 * k4K, k4K},
                                 {0, k2M},
                                 {0, k1G},
                                 {0, k512G},
                                 {k2M, k4K},
                                 {k1G, k4K},
                                 {0x7fff'ffff'0000, k4K},  // last of the lower half
                                 {0xffff'c000'0000'0000, k4K},
                                 {0xffff'ffff'8000'0000, k4K},
                                 {0xffff'ffff'ffff'0000, k4K},  // last of all
                                 {0xffff'8000'0000'0000, k512G},
                                 {kNotCanonical, kNotCanonicalStride},
                                 {0xffff'f680'0000'0000, k4K},              // level-1 tables
                                 {0xffff'f6fb'4000'0000, k4K},              // level-2 tables
                                 {0xffff'f6fb'7dbe'd000 - 8 * k4K, k4K}}};  // around the root

constexpr std::uint64_t page(const Groups& groups, unsigned selector) {
  const Group& g = groups[selector >> 4 & 15];
  return g.base + (selector & 15) * g.stride;
}

// A selector that names that page, the lowest; escapes excluded.
constexpr std::optional<std::uint8_t> selector(const Groups& groups, std::uint64_t page_address) {
  for (unsigned s = 0; s < kEscapeOffset; s += 16) {
    const Group& g = groups[s >> 4];
    const std::uint64_t distance = page_address - g.base;
    if (distance % g.stride || distance / g.stride > 15) continue;
    const unsigned found = s + static_cast<unsigned>(distance / g.stride);
    if (found < kEscapeOffset) return static_cast<std::uint8_t>(found);
  }
  return std::nullopt;
}

}  // namespace twinwalk::pool

#endif  // TWINWALK_HARNESS_TRACE_POOLS_H_
