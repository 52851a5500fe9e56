#include "harness/guest_view.h"

#include "harness/trace/x86.h"

namespace twinwalk {
namespace {

// How a mode reads its tables. Level 1 is the leaf table.
struct Tables {
  unsigned levels = 0;
  unsigned entry_bytes = 8;
  unsigned index_bits = 9;
  unsigned largest = 3;  // level up to which PS makes a page
  std::uint64_t root = 0;
  std::uint64_t linear = ~std::uint64_t{0};  // the bits of a gva that count
};

// SDM 3A §"Hierarchical Paging Structures: an Overview".
Tables tables_of(const Registers& r) {
  constexpr std::uint64_t kLow = 0xffff'ffff;
  switch (mode_of(r.cr0, r.cr4, r.efer)) {
    case Mode::kNone:
      return {.linear = kLow};
    case Mode::k32Bit:
      return {2, 4, 10, r.cr4 & cr4::kPse ? 2u : 1u, r.cr3 & 0xffff'f000, kLow};
    case Mode::kPae:
      return {3, 8, 9, 2, r.cr3 & 0xffff'ffe0, kLow};
    case Mode::k4Level:
      return {4, 8, 9, 3, r.cr3 & pte::kAddressMask};
    case Mode::k5Level:
      return {5, 8, 9, 3, r.cr3 & pte::kAddressMask};
  }
  return {};
}

// Of a page whose leaf is at `level`. A PDE of 32-bit paging has bits 39:32 in 20:13.
std::uint64_t frame_of(const Tables& tables, std::uint64_t entry, unsigned level,
                       std::uint64_t in_page) {
  std::uint64_t frame = entry & pte::kAddressMask & ~in_page;
  if (tables.entry_bytes == 4 && level == 2) frame |= (entry >> 13 & 0xff) << 32;
  return frame;
}

}  // namespace

std::uint64_t GuestView::walk(const Registers& registers, std::uint64_t gva, Path& path) const {
  const Tables tables = tables_of(registers);
  path.count = 0;
  gva &= tables.linear;
  if (tables.levels == 0) return gva;
  std::uint64_t table = tables.root;
  const SlotView* slot = slots_.find(table);
  unsigned shift = 12 + tables.index_bits * tables.levels;
  for (unsigned level = tables.levels; level >= 1; --level) {
    shift -= tables.index_bits;
    const std::uint64_t at =
        table + (gva >> shift & (bit(tables.index_bits) - 1)) * tables.entry_bytes;
    // Tables mostly lie in one slot: looked up again only where they do not.
    if (!slot || !slot->holds(at)) slot = slots_.find(at);
    if (!slot) return kUnknownGpa;
    const std::uint64_t entry = memory_.peek(slot->hva_of(at), tables.entry_bytes);
    path.entry[path.count++] = entry;
    if (!(entry & pte::kP)) return kUnknownGpa;
    if (level == 1 || (level <= tables.largest && (entry & pte::kPs))) {
      const std::uint64_t in_page = bit(shift) - 1;
      return frame_of(tables, entry, level, in_page) | (gva & in_page);
    }
    table = entry & pte::kAddressMask;
  }
  return kUnknownGpa;
}

}  // namespace twinwalk
