#ifndef TWINWALK_HARNESS_TRACE_GUEST_TABLES_H_
#define TWINWALK_HARNESS_TRACE_GUEST_TABLES_H_

// The guest's own tables as they are in memory, for Outcome::path.

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/outcome.h"
#include "harness/trace/x86.h"

namespace twinwalk {

// How a mode reads its tables. Level 1 is the leaf table. SDM 3A §"Hierarchical Paging Structures:
// an Overview".
struct TableShape {
  unsigned levels;
  unsigned entry_bytes;
  unsigned index_bits;
  unsigned largest;    // level up to which PS makes a page
  std::uint64_t root;  // the bits of CR3 that name the first table
};
inline constexpr TableShape kShape32Bit{2, 4, 10, 1, 0xffff'f000},
    kShape32BitPse{2, 4, 10, 2, 0xffff'f000}, kShapePae{3, 8, 9, 2, 0xffff'ffe0},
    kShape4Level{4, 8, 9, 3, pte::kAddressMask}, kShape5Level{5, 8, 9, 3, pte::kAddressMask};

// Of a page whose leaf is at `level`. A PDE of 32-bit paging has bits 39:32 in 20:13.
constexpr std::uint64_t frame_of(const TableShape& shape, std::uint64_t entry, unsigned level,
                                 std::uint64_t in_page) {
  std::uint64_t frame = entry & pte::kAddressMask & ~in_page;
  if (shape.entry_bytes == 4 && level == 2) frame |= (entry >> 13 & 0xff) << 32;
  return frame;
}

// The shape is known when this is compiled: it runs after each access.
template <const TableShape& kShape, class Reader>
std::uint64_t walk_tables(Reader& read, std::uint64_t cr3, std::uint64_t gva, Path& path) {
  constexpr std::uint64_t kIndexMask = (bit(kShape.index_bits) - 1) * kShape.entry_bytes;
  std::uint64_t table = cr3 & kShape.root;
#pragma GCC unroll 5
  for (unsigned level = kShape.levels; level >= 1; --level) {
    const unsigned shift = 12 + kShape.index_bits * (level - 1);
    const std::uint64_t at = table + ((gva >> shift) * kShape.entry_bytes & kIndexMask);
    std::uint64_t entry;
    if (!read(at, kShape.entry_bytes, entry)) return kUnknownGpa;
    path.entry[path.count++] = entry;
    if (!(entry & pte::kP)) return kUnknownGpa;
    if (level == 1 || (level <= kShape.largest && (entry & pte::kPs))) {
      const std::uint64_t in_page = bit(shift) - 1;
      return frame_of(kShape, entry, level, in_page) | (gva & in_page);
    }
    table = entry & pte::kAddressMask;
  }
  return kUnknownGpa;
}

// Walks the guest's tables for `gva` in the mode that the registers select, as Outcome::path wants
// it: in PAE mode the first entry is the PDPTE that is in memory, whatever was latched; with paging
// off there is none. `read(gpa, bytes, entry)`: false where no memory can be read. Returns the gpa
// that the leaf names, kUnknownGpa if the walk ends before one.
template <class Reader>
std::uint64_t walk_guest_tables(const Registers& r, std::uint64_t gva, Reader& read, Path& path) {
  const std::uint64_t low = gva & 0xffff'ffff;
  path.count = 0;
  switch (mode_of(r.cr0, r.cr4, r.efer)) {
    case Mode::kNone:
      return low;
    case Mode::k32Bit:
      return r.cr4 & cr4::kPse ? walk_tables<kShape32BitPse>(read, r.cr3, low, path)
                               : walk_tables<kShape32Bit>(read, r.cr3, low, path);
    case Mode::kPae:
      return walk_tables<kShapePae>(read, r.cr3, low, path);
    case Mode::k4Level:
      return walk_tables<kShape4Level>(read, r.cr3, gva, path);
    case Mode::k5Level:
      return walk_tables<kShape5Level>(read, r.cr3, gva, path);
  }
  return kUnknownGpa;
}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_TRACE_GUEST_TABLES_H_
