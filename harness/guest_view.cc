#include "harness/guest_view.h"

#include "harness/trace/x86.h"

namespace twinwalk {
namespace {

// How a mode reads its tables. Level 1 is the leaf table. SDM 3A §"Hierarchical Paging Structures:
// an Overview".
struct Tables {
  unsigned levels;
  unsigned entry_bytes;
  unsigned index_bits;
  unsigned largest;    // level up to which PS makes a page
  std::uint64_t root;  // the bits of CR3 that name the first table
};
constexpr std::uint64_t kLow = 0xffff'ffff;
constexpr Tables k32Bit{2, 4, 10, 1, 0xffff'f000}, k32BitPse{2, 4, 10, 2, 0xffff'f000},
    kPae{3, 8, 9, 2, 0xffff'ffe0}, k4Level{4, 8, 9, 3, pte::kAddressMask},
    k5Level{5, 8, 9, 3, pte::kAddressMask};

// Of a page whose leaf is at `level`. A PDE of 32-bit paging has bits 39:32 in 20:13.
constexpr std::uint64_t frame_of(const Tables& tables, std::uint64_t entry, unsigned level,
                                 std::uint64_t in_page) {
  std::uint64_t frame = entry & pte::kAddressMask & ~in_page;
  if (tables.entry_bytes == 4 && level == 2) frame |= (entry >> 13 & 0xff) << 32;
  return frame;
}

// The mode is known when this is compiled: it runs after each access.
template <const Tables& kTables>
std::uint64_t walk_tables(const HostMemory& memory, const SlotMap& slots, std::uint64_t cr3,
                          std::uint64_t gva, Path& path) {
  constexpr std::uint64_t kIndexMask = (bit(kTables.index_bits) - 1) * kTables.entry_bytes;
  std::uint64_t table = cr3 & kTables.root;
  const SlotView* slot = slots.find(table);
#pragma GCC unroll 5
  for (unsigned level = kTables.levels; level >= 1; --level) {
    const unsigned shift = 12 + kTables.index_bits * (level - 1);
    const std::uint64_t at = table + ((gva >> shift) * kTables.entry_bytes & kIndexMask);
    // Tables mostly lie in one slot: looked up again only where they do not.
    if (!slot || !slot->holds(at)) slot = slots.find(at);
    if (!slot) return kUnknownGpa;
    const std::uint64_t entry = memory.peek(slot->hva_of(at), kTables.entry_bytes);
    path.entry[path.count++] = entry;
    if (!(entry & pte::kP)) return kUnknownGpa;
    if (level == 1 || (level <= kTables.largest && (entry & pte::kPs))) {
      const std::uint64_t in_page = bit(shift) - 1;
      return frame_of(kTables, entry, level, in_page) | (gva & in_page);
    }
    table = entry & pte::kAddressMask;
  }
  return kUnknownGpa;
}

}  // namespace

std::uint64_t GuestView::walk(const Registers& r, std::uint64_t gva, Path& path) const {
  path.count = 0;
  switch (mode_of(r.cr0, r.cr4, r.efer)) {
    case Mode::kNone:
      return gva & kLow;
    case Mode::k32Bit:
      return r.cr4 & cr4::kPse ? walk_tables<k32BitPse>(memory_, slots_, r.cr3, gva & kLow, path)
                               : walk_tables<k32Bit>(memory_, slots_, r.cr3, gva & kLow, path);
    case Mode::kPae:
      return walk_tables<kPae>(memory_, slots_, r.cr3, gva & kLow, path);
    case Mode::k4Level:
      return walk_tables<k4Level>(memory_, slots_, r.cr3, gva, path);
    case Mode::k5Level:
      return walk_tables<k5Level>(memory_, slots_, r.cr3, gva, path);
  }
  return kUnknownGpa;
}

}  // namespace twinwalk
