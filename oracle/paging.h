#ifndef TWINWALK_ORACLE_PAGING_H_
#define TWINWALK_ORACLE_PAGING_H_

// What a paging mode is, as data, and what an entry may hold under it.
//
//            gva                                                               level of the entry
//   5-level  PML5E ─► PML4E ─► PDPTE ─► PDE ──► PTE ──► byte    48..39..30..21..12   5 4 3 2 1
//   4-level           PML4E ─► PDPTE ─► PDE ──► PTE ──► byte        39..30..21..12     4 3 2 1
//   PAE                        PDPTE ─► PDE ──► PTE ──► byte            30..21..12       3 2 1
//   32-bit                              PDE ──► PTE ──► byte                22..12         2 1
//   none                                              gva = gpa
//                     PS in a PDPTE: 1G (not in PAE); in a PDE: 2M, 4M with CR4.PSE
//
// PAE's four PDPTEs have neither rights nor flags, and (Intel) are registers: see PdpteRegisters.

#include <cstdint>
#include <string_view>

#include "harness/trace/machine.h"
#include "harness/trace/x86.h"

namespace twinwalk::oracle {

inline constexpr unsigned kMaxLevels = 5;

struct PagingMode {
  Mode mode = Mode::kNone;
  std::uint8_t levels = 0;      // of the walk; the root table's entries have this level
  std::uint8_t index_bits = 0;  // of the gva that one level consumes
  std::uint8_t entry_bytes = 0;
  std::uint8_t linear_bits = 0;    // of a canonical gva; of any gva where they are 32
  std::uint8_t leaf_levels = 0;    // bit L: PS=1 at level L maps a page (level 1 always does)
  std::uint8_t plain_entries = 0;  // first entries of a walk without rights, A and D
  std::uint64_t root_mask = 0;     // of CR3: where the root table is

  // Whether a present entry at `level` maps a page.
  constexpr bool is_leaf(std::uint64_t entry, unsigned level) const {
    return level == 1 || ((entry & pte::kPs) && (leaf_levels >> level & 1));
  }
  // Lowest bit of the gva that an entry at `level` translates.
  constexpr unsigned shift(unsigned level) const { return 12u + index_bits * (level - 1u); }
  constexpr std::uint64_t page_bytes(unsigned level) const {
    return std::uint64_t{1} << shift(level);
  }
  constexpr std::uint64_t index_of(std::uint64_t gva, unsigned level) const {
    return (gva >> shift(level)) & ((1u << index_bits) - 1);
  }
  constexpr std::uint64_t entry_gpa(std::uint64_t table, std::uint64_t gva, unsigned level) const {
    return table + index_of(gva, level) * entry_bytes;
  }
  constexpr std::uint64_t entry_mask() const {
    return entry_bytes == 4 ? 0xffff'ffff : ~std::uint64_t{0};
  }
  // The address in an entry at `level`: of the next table, or of the page.
  // SDM 3A table "Format of a 32-Bit Page-Directory Entry that Maps a 4-MByte Page": PSE-36 has
  // address bits 39:32 in bits 20:13.
  constexpr std::uint64_t frame(std::uint64_t entry, unsigned level, bool leaf) const {
    const std::uint64_t address = entry & pte::kAddressMask;
    if (!leaf || level == 1) return address;
    const std::uint64_t page = address & ~(page_bytes(level) - 1);
    return entry_bytes == 4 ? page | (entry >> 13 & 0xff) << 32 : page;
  }
  constexpr bool is_long() const { return mode == Mode::k4Level || mode == Mode::k5Level; }
  // Outside long mode linear addresses have 32 bits, SDM 3A §"Paging Modes and Control Bits".
  constexpr std::uint64_t linear(std::uint64_t gva) const {
    return is_long() ? gva : gva & 0xffff'ffff;
  }
  // SDM 1 §"Canonical Addressing": bits above linear_bits - 1 equal that bit. Precondition: gva is
  // what linear() gives; then there is no such rule outside long mode.
  constexpr bool canonical(std::uint64_t gva) const {
    if (!is_long()) return true;
    const unsigned spare = 64u - linear_bits;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(gva << spare) >> spare) == gva;
  }
};

// Rows of kModes. CR4.PSE makes two of 32-bit paging: it decides what PS means there, and there
// only.
inline constexpr unsigned kRowNone = 0, kRow32 = 1, kRow32Pse = 2, kRowPae = 3, kRow4Level = 4,
                          kRow5Level = 5, kRows = 6;
inline constexpr PagingMode kModes[kRows] = {
    {Mode::kNone, 0, 9, 8, 32, 0, 0, 0},
    {Mode::k32Bit, 2, 10, 4, 32, 0, 0, 0xffff'f000},
    {Mode::k32Bit, 2, 10, 4, 32, 1u << 2, 0, 0xffff'f000},
    {Mode::kPae, 3, 9, 8, 32, 1u << 2, 1, 0xffff'ffe0},
    {Mode::k4Level, 4, 9, 8, 48, 1u << 2 | 1u << 3, 0, pte::kAddressMask},
    {Mode::k5Level, 5, 9, 8, 57, 1u << 2 | 1u << 3, 0, pte::kAddressMask},
};
static_assert(kModes[kRow32].shift(2) + kModes[kRow32].index_bits == 32);
static_assert(kModes[kRowPae].shift(3) + 2 == 32);  // four PDPTEs: the upper index bits are 0
static_assert(kModes[kRow4Level].shift(4) + kModes[kRow4Level].index_bits == 48);
static_assert(kModes[kRow5Level].shift(5) + kModes[kRow5Level].index_bits == 57);

// Where PAE's PDPTE `number` is: 32 bytes, 32-aligned, so all four lie in one memslot or in none.
constexpr std::uint64_t gpa_of_pdpte(std::uint64_t cr3, unsigned number) {
  return (cr3 & kModes[kRowPae].root_mask) + 8 * number;
}

// SDM 3A §"Paging Modes and Control Bits". LMA = LME and PG.
inline unsigned row_of(const Registers& r) {
  const bool paging = r.cr0 & cr0::kPg, pae = r.cr4 & cr4::kPae;
  if (paging && pae && (r.efer & efer::kLme)) [[likely]]
    return r.cr4 & cr4::kLa57 ? kRow5Level : kRow4Level;
  if (!paging) return kRowNone;
  return pae ? kRowPae : r.cr4 & cr4::kPse ? kRow32Pse : kRow32;
}

// PAE's PDPTEs as the processor holds them, SDM 3A §"PDPTE Registers". With vendor=amd there are
// none: they are read at each walk.
struct PdpteRegisters {
  std::uint64_t entry[4] = {};
  bool known = true;  // false: loaded from where there is no memory
  // Bit i: entry[i] may have had a reserved bit when a vCPU began with it, and then is not present.
  std::uint8_t doubtful = 0;
  friend bool operator==(const PdpteRegisters&, const PdpteRegisters&) = default;
};

// Reserved bits by level, for one machine and one EFER.NXE.
// SDM 3A §"Paging", tables "Format of a ... Entry"; APM 2 §"Long-Mode Page Translation".
struct EntryRules {
  const PagingMode* mode = nullptr;
  std::uint64_t table[kMaxLevels + 1] = {};  // [level]: of an entry that refers to a table
  std::uint64_t leaf[kMaxLevels + 1] = {};   // [level]: of one that maps a page

  bool is_leaf(std::uint64_t entry, unsigned level) const { return mode->is_leaf(entry, level); }
  // Entries at `level` have no rights, A and D: PAE's PDPTEs.
  bool is_plain(unsigned level) const { return mode->levels - level < mode->plain_entries; }
  // Precondition: P=1.
  std::uint64_t reserved_bits(std::uint64_t entry, unsigned level) const {
    return entry & (is_leaf(entry, level) ? leaf : table)[level];
  }
  bool reserved(std::uint64_t entry, unsigned level) const {
    return reserved_bits(entry, level) != 0;
  }
  // Address of the next table, or of the page.
  std::uint64_t frame(std::uint64_t entry, unsigned level) const {
    return mode->frame(entry, level, is_leaf(entry, level));
  }
};

EntryRules make_entry_rules(const PagingMode& mode, const Machine& machine, bool nxe);

// The manual's table for an entry at `level`, for people: "Format of a PAE Page-Directory Entry
// that Maps a 2-MByte Page" ...
std::string_view format_table(const PagingMode& mode, unsigned level, bool leaf);

// All rules of one machine.
class RuleBook {
 public:
  void reset(const Machine& machine);
  const EntryRules& at(unsigned row, bool nxe) const { return rules_[row][nxe]; }

 private:
  EntryRules rules_[kRows][2];
  Machine of_;  // of its words only those that decide entries
  bool filled_ = false;
};

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_PAGING_H_
