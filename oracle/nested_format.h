#ifndef TWINWALK_ORACLE_NESTED_FORMAT_H_
#define TWINWALK_ORACLE_NESTED_FORMAT_H_

// The entries of the second dimension, as data: EPT by the EPTP and the processor's capabilities,
// NPT by the host's own paging mode.
//
//             gpa                                                              level of the entry
//   EPT 5     PML5E ─► PML4E ─► PDPTE ─► PDE ──► PTE ──► byte    48..39..30..21..12   5 4 3 2 1
//   EPT 4              PML4E ─► PDPTE ─► PDE ──► PTE ──► byte        39..30..21..12     4 3 2 1
//   NPT 5, 4  as the host's 5-level and 4-level paging
//   NPT 3                       PDPTE ─► PDE ──► PTE ──► byte            30..21..12       3 2 1
//
// PAE's PDPTEs (NPT 3) have no rights and no flags.

#include <cstdint>
#include <string_view>

#include "harness/trace/machine.h"
#include "oracle/paging.h"

namespace twinwalk::oracle {

// What a use of a guest-physical address asks of the entries that translate it.
struct NestedNeeds {
  std::uint64_t all = 0;   // bits that every entry must have
  std::uint64_t none = 0;  // bits that no entry may have
};

struct NestedFormat {
  bool ept = true;
  bool flags = false;         // the processor sets A and D: EPTP bit 6; NPT always
  bool mbec = false;          // EPT: bit 10 is the right to execute user-mode linear addresses
  bool execute_only = false;  // EPT: X without R is a right, not a misconfiguration
  bool nxe = false;           // NPT: XD counts
  std::uint8_t levels = 4;
  std::uint8_t plain_entries = 0;  // first entries of a walk without rights and flags
  std::uint8_t leaf_levels = 0;    // bit L: PS=1 at level L maps a page (level 1 always does)
  std::uint8_t address_bits = 48;  // of a guest-physical address that the tables translate
  std::uint64_t present = 0;       // an entry with none of these is not present
  std::uint64_t accessed = 0, dirty = 0;
  std::uint64_t table[kMaxLevels + 1] = {};  // [level]: reserved in an entry that refers to a table
  std::uint64_t leaf[kMaxLevels + 1] = {};   // and in one that maps a page

  bool is_present(std::uint64_t entry) const { return (entry & present) != 0; }
  bool is_leaf(std::uint64_t entry, unsigned level) const {
    return level == 1 || ((entry & pte::kPs) && (leaf_levels >> level & 1));
  }
  bool is_plain(unsigned level) const { return levels - level < plain_entries; }
  bool translates(std::uint64_t gpa) const { return gpa >> address_bits == 0; }
  // What makes a present entry a misconfiguration (EPT), or a reserved bit in it (NPT).
  bool misconfigured(std::uint64_t entry, unsigned level) const;
  static constexpr unsigned shift(unsigned level) { return 12u + 9u * (level - 1u); }
  std::uint64_t entry_at(std::uint64_t table_at, std::uint64_t gpa, unsigned level) const {
    return table_at + (gpa >> shift(level) & 511) * 8;
  }
  // Of the next table, or of the page.
  std::uint64_t frame(std::uint64_t entry, unsigned level) const {
    const std::uint64_t address = entry & pte::kAddressMask;
    return is_leaf(entry, level) ? address & ~((std::uint64_t{1} << shift(level)) - 1) : address;
  }

  // An access by the guest; `user`: its linear address is a user-mode one.
  NestedNeeds read() const;
  NestedNeeds write() const;
  NestedNeeds fetch(bool user) const;
  // To a guest paging-structure entry: with flags, and with NPT always, such accesses are writes.
  NestedNeeds table_access() const { return ept && !flags ? read() : write(); }
};

// `root` is a legal EPTP.
NestedFormat make_ept_format(const Machine& machine, std::uint64_t eptp);
NestedFormat make_npt_format(const Machine& machine);

// Why VM entry and INVEPT do not take that EPTP; nullptr if they do.
const char* eptp_fault(const Machine& machine, std::uint64_t eptp);

// The manual's table for an entry at `level`, for people.
std::string_view nested_table(const NestedFormat& format, unsigned level, bool leaf);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_NESTED_FORMAT_H_
