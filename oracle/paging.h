#ifndef TWINWALK_ORACLE_PAGING_H_
#define TWINWALK_ORACLE_PAGING_H_

// What a paging mode is, as data, and what an entry may hold under it.
//
//   gva 63..48  47..39   38..30   29..21   20..12   11..0
//       canon.  PML4E ─► PDPTE ─► PDE ───► PTE ───► byte        levels 4, 3, 2, 1
//                        └ PS: 1G └ PS: 2M └ 4K
//
// A further mode is a further row of kModes (and, for PAE, its latched root).

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/x86.h"

namespace twinwalk::oracle {

inline constexpr unsigned kMaxLevels = 5;

struct PagingMode {
  Mode mode = Mode::kNone;
  std::uint8_t levels = 0;      // of the walk; the root table's entries have this level
  std::uint8_t index_bits = 0;  // of the gva that one level consumes
  std::uint8_t entry_bytes = 0;
  std::uint8_t linear_bits = 0;  // of a canonical gva
  std::uint8_t leaf_levels = 0;  // bit L: PS=1 at level L maps a page (level 1 always does)

  // Whether a present entry at `level` maps a page.
  constexpr bool is_leaf(std::uint64_t entry, unsigned level) const {
    return level == 1 || ((entry & pte::kPs) && (leaf_levels >> level & 1));
  }
  // Lowest bit of the gva that an entry at `level` translates.
  constexpr unsigned shift(unsigned level) const { return 12u + index_bits * (level - 1u); }
  constexpr std::uint64_t page_bytes(unsigned level) const {
    return std::uint64_t{1} << shift(level);
  }
  constexpr std::uint64_t entry_gpa(std::uint64_t table, std::uint64_t gva, unsigned level) const {
    return table + ((gva >> shift(level)) & ((1u << index_bits) - 1)) * entry_bytes;
  }
  // SDM 1 §"Canonical Addressing": bits above linear_bits - 1 equal that bit.
  constexpr bool canonical(std::uint64_t gva) const {
    const unsigned spare = 64u - linear_bits;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(gva << spare) >> spare) == gva;
  }
};

inline constexpr PagingMode kModes[] = {
    {Mode::k4Level, 4, 9, 8, 48, 1u << 2 | 1u << 3},
};
static_assert(kModes[0].shift(4) + kModes[0].index_bits == kModes[0].linear_bits);

// The row of `mode`, or nullptr where the reference does not walk it.
constexpr const PagingMode* find_mode(Mode mode) {
  for (const PagingMode& m : kModes) {
    if (m.mode == mode) return &m;
  }
  return nullptr;
}

// Reserved bits by level, for one machine and one EFER.NXE.
// SDM 3A §"Paging", tables "Format of a ... Entry"; APM 2 §"Long-Mode Page Translation".
struct EntryRules {
  const PagingMode* mode = nullptr;
  std::uint64_t table[kMaxLevels + 1] = {};  // [level]: of an entry that refers to a table
  std::uint64_t leaf[kMaxLevels + 1] = {};   // [level]: of one that maps a page

  bool is_leaf(std::uint64_t entry, unsigned level) const { return mode->is_leaf(entry, level); }
  // Precondition: P=1.
  bool reserved(std::uint64_t entry, unsigned level) const {
    return (entry & (is_leaf(entry, level) ? leaf : table)[level]) != 0;
  }
  // Address of the next table, or of the page.
  std::uint64_t frame(std::uint64_t entry, unsigned level) const {
    std::uint64_t address = entry & pte::kAddressMask;
    if (level > 1 && is_leaf(entry, level)) address &= ~(mode->page_bytes(level) - 1);
    return address;
  }
};

EntryRules make_entry_rules(const PagingMode& mode, const Machine& machine, bool nxe);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_PAGING_H_
