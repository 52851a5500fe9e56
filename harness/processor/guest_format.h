#ifndef TWINWALK_HARNESS_PROCESSOR_GUEST_FORMAT_H_
#define TWINWALK_HARNESS_PROCESSOR_GUEST_FORMAT_H_

// The guest's own paging modes as data, and what an entry may hold under each: this processor's
// reading of SDM 3A chapter "Paging" and APM 2 chapter "Page Translation and Protection".

#include <cstdint>

#include "harness/trace/machine.h"

namespace twinwalk::processor {

struct GuestFormat {
  std::uint8_t levels;       // of the walk; 0: paging is off
  std::uint8_t entry_bytes;  // 4 or 8
  std::uint8_t index_bits;
  std::uint8_t large;     // highest level at which PS makes a page
  std::uint8_t gva_bits;  // 32: addresses are taken modulo 2^32; else they have to be canonical
  std::uint64_t root;     // the bits of CR3 that name the first table

  constexpr unsigned shift_of(unsigned level) const { return 12u + index_bits * (level - 1u); }
  constexpr std::uint64_t entry_at(std::uint64_t table, std::uint64_t gva, unsigned level) const {
    const std::uint64_t index = gva >> shift_of(level) & ((std::uint64_t{1} << index_bits) - 1);
    return table + index * entry_bytes;
  }
  constexpr bool is_legacy() const { return gva_bits == 32; }
  bool is_leaf(std::uint64_t entry, unsigned level) const {
    return level == 1 || (level <= large && (entry >> 7 & 1));
  }
  // Where the page of a leaf begins. A PDE of 32-bit paging has bits 39:32 in 20:13.
  std::uint64_t frame_of(std::uint64_t entry, unsigned level) const;
};

enum GuestMode : std::uint8_t { kOff, kTwo, kTwoPse, kThree, kFour, kFive, kGuestModes };
inline constexpr std::uint64_t kAddressBits = 0x000f'ffff'ffff'f000;
inline constexpr GuestFormat kGuestFormats[kGuestModes] = {
    {0, 8, 9, 0, 32, 0},           {2, 4, 10, 1, 32, 0xffff'f000}, {2, 4, 10, 2, 32, 0xffff'f000},
    {3, 8, 9, 2, 32, 0xffff'ffe0}, {4, 8, 9, 3, 48, kAddressBits}, {5, 8, 9, 3, 57, kAddressBits}};

// SDM 3A §"Paging-Mode Modifiers".
GuestMode guest_mode(const Registers& registers);

// Bits that a present entry must not have, by level, and apart for those that map a page.
struct GuestReserved {
  std::uint64_t table[6] = {}, leaf[6] = {};
};

class GuestRules {
 public:
  void reset(const Machine& machine);
  bool reserved(GuestMode mode, bool nxe, std::uint64_t entry, unsigned level) const {
    const GuestReserved& r = reserved_[mode][nxe];
    return entry & (kGuestFormats[mode].is_leaf(entry, level) ? r.leaf : r.table)[level];
  }
  // Of an entry of the four PDPTEs in PAE mode, which are registers with Intel.
  std::uint64_t reserved_in_pdpte() const { return reserved_[kThree][0].table[3]; }

 private:
  GuestReserved reserved_[kGuestModes][2];  // [1]: EFER.NXE
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_GUEST_FORMAT_H_
