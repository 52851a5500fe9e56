#include "harness/guest_view.h"

#include "harness/trace/x86.h"

namespace twinwalk {

std::uint64_t GuestView::walk(std::uint64_t cr3, std::uint64_t gva, Path& path) const {
  std::uint64_t table = cr3 & pte::kAddressMask;
  path.count = 0;
  for (unsigned level = 4; level >= 1; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    std::uint64_t entry;
    if (!read(table + (gva >> shift & 511) * 8, entry)) return kUnknownGpa;
    path.entry[path.count++] = entry;
    if (!(entry & pte::kP)) return kUnknownGpa;
    if (level == 1 || (level <= 3 && (entry & pte::kPs))) {
      const std::uint64_t in_page = bit(shift) - 1;
      return (entry & pte::kAddressMask & ~in_page) | (gva & in_page);
    }
    table = entry & pte::kAddressMask;
  }
  return kUnknownGpa;
}

}  // namespace twinwalk
