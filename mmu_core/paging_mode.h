#ifndef MMU_CORE_PAGING_MODE_H_
#define MMU_CORE_PAGING_MODE_H_

// The geometry of each guest paging mode, as data: one walk serves them all.
//
//   root ──index[L]──► entry ──► table ──index[L-1]──► ... ──index[1]──► page

#include "mmu_core/types.h"

namespace mmu {

inline constexpr unsigned kMaxLevels = 5;

struct Level {
  u8 index_lo;  // lowest linear-address bit of the index
  u8 index_bits;
  bool may_map_page;  // PS = 1 here can end the walk (capability permitting)
};
// A guest's paging mode as a role and a counter name it.
enum class Paging : u8 { kNone, k32Bit, kPae, k4Level, k5Level };

struct PagingMode {
  Paging kind;
  u8 entry_bytes;
  u8 linear_bits;
  u8 levels;
  Level level[kMaxLevels];  // [0] is the leaf table

  // Outside IA-32e mode, where linear addresses have 32 bits and CR4.PCIDE is 0.
  constexpr bool legacy() const { return linear_bits == 32; }
};

inline constexpr PagingMode kNoPaging{Paging::kNone, 0, 32, 0, {}};
inline constexpr PagingMode k32Bit{Paging::k32Bit, 4, 32, 2, {{12, 10, true}, {22, 10, true}}};
// Its third level is never walked: the four PDPTEs are registers.
inline constexpr PagingMode kPae{
    Paging::kPae, 8, 32, 3, {{12, 9, true}, {21, 9, true}, {30, 2, false}}};
inline constexpr PagingMode k4Level{
    Paging::k4Level, 8, 48, 4, {{12, 9, true}, {21, 9, true}, {30, 9, true}, {39, 9, false}}};
inline constexpr PagingMode k5Level{
    Paging::k5Level,
    8,
    57,
    5,
    {{12, 9, true}, {21, 9, true}, {30, 9, true}, {39, 9, false}, {48, 9, false}}};

// The indices tile the linear address: no gap, no overlap.
consteval bool tiles(const PagingMode& m) {
  unsigned b = 12;
  for (unsigned i = 0; i < m.levels; ++i) {
    if (m.level[i].index_lo != b) return false;
    b += m.level[i].index_bits;
  }
  return b == m.linear_bits;
}
static_assert(tiles(k32Bit) && tiles(kPae) && tiles(k4Level) && tiles(k5Level));

// Index into the table at `level` (1 = leaf table).
constexpr unsigned index_of(const PagingMode& m, unsigned level, Gva a) {
  const Level& l = m.level[level - 1];
  return static_cast<unsigned>((a.raw >> l.index_lo) & ((1u << l.index_bits) - 1));
}
static_assert(index_of(k4Level, 4, Gva{0xffff'8000'0000'0000}) == 256);

// SDM 1 "Canonical Addressing"; always true for modes of 32 linear bits.
constexpr bool is_canonical(const PagingMode& m, Gva a) {
  if (m.linear_bits == 32) return true;
  const auto top = static_cast<std::int64_t>(a.raw) >> (m.linear_bits - 1);
  return top == 0 || top == -1;
}

// The linear address that an instruction makes of `a`: outside IA-32e mode it has 32 bits.
constexpr Gva linear_address(const PagingMode& m, Gva a) {
  return m.legacy() ? Gva{a.raw & 0xffff'ffff} : a;
}

}  // namespace mmu

#endif  // MMU_CORE_PAGING_MODE_H_
