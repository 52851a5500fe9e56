#ifndef TWINWALK_ORACLE_UNICORN_TABLE_LAYOUT_H_
#define TWINWALK_ORACLE_UNICORN_TABLE_LAYOUT_H_

// Where the entries of a walk lie, by paging mode: for keeping books of what an access may touch.
// Nothing is judged by it, so it knows no rights and no reserved bits.
//
//           level 5   level 4   level 3   level 2   level 1
//   none       -         -         -         -         -       gpa = gva
//   32-bit     -         -         -       10 bits   10 bits   4-byte entries
//   PAE        -         -       2 bits     9 bits    9 bits   four PDPTEs, latched in registers
//   4-level    -       9 bits    9 bits     9 bits    9 bits
//   5-level  9 bits    9 bits    9 bits     9 bits    9 bits

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/x86.h"

namespace twinwalk::oracle::unicorn {

struct TableLayout {
  Mode mode = Mode::kNone;
  unsigned levels = 0, index_bits = 0, entry_bytes = 0;
  std::uint64_t root_mask = 0;  // of CR3

  bool long_mode() const { return levels >= 4; }
  // SDM 3A §"Paging-Mode Modifiers" and §"Hierarchical Paging Structures: an Overview": outside
  // 4-level and 5-level paging linear addresses have 32 bits.
  std::uint64_t linear(std::uint64_t gva) const { return long_mode() ? gva : gva & 0xffff'ffff; }

  unsigned shift(unsigned level) const { return 12 + index_bits * (level - 1); }
  std::uint64_t root(std::uint64_t cr3) const { return cr3 & root_mask; }
  // Precondition: gva is linear(gva). PAE's four PDPTEs need no smaller mask: there is nothing
  // above.
  std::uint64_t entry_gpa(std::uint64_t table, std::uint64_t gva, unsigned level) const {
    return table + (gva >> shift(level) & ((1u << index_bits) - 1)) * entry_bytes;
  }
  std::uint64_t next_table(std::uint64_t entry) const { return entry & pte::kAddressMask; }
  bool is_leaf(std::uint64_t entry, unsigned level, std::uint64_t cr4) const {
    if (level == 1 || (entry & pte::kPs) == 0) return level == 1;
    if (mode == Mode::k32Bit) return level == 2 && (cr4 & cr4::kPse) != 0;
    return level == 2 || (level == 3 && long_mode());
  }
  // Of the page that a leaf maps. SDM 3A §"32-Bit Paging": PSE-36 has bits 39:32 at 20:13.
  std::uint64_t frame(std::uint64_t leaf, unsigned level) const {
    const std::uint64_t offset = (std::uint64_t{1} << shift(level)) - 1;
    const std::uint64_t address = leaf & pte::kAddressMask & ~offset;
    return mode == Mode::k32Bit && level == 2 ? address | (leaf >> 13 & 0xff) << 32 : address;
  }
};

// By mode.
inline constexpr TableLayout kLayouts[] = {{Mode::kNone, 0, 0, 0, 0},
                                           {Mode::k32Bit, 2, 10, 4, 0xffff'f000},
                                           {Mode::kPae, 3, 9, 8, 0xffff'ffe0},
                                           {Mode::k4Level, 4, 9, 8, pte::kAddressMask},
                                           {Mode::k5Level, 5, 9, 8, pte::kAddressMask}};
inline const TableLayout& layout_of(Mode mode) { return kLayouts[static_cast<unsigned>(mode)]; }

}  // namespace twinwalk::oracle::unicorn

#endif  // TWINWALK_ORACLE_UNICORN_TABLE_LAYOUT_H_
