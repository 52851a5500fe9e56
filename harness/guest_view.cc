#include "harness/guest_view.h"

#include "harness/trace/guest_tables.h"

namespace twinwalk {

std::uint64_t GuestView::walk(const Registers& r, std::uint64_t gva, Path& path) const {
  const SlotView* slot = nullptr;
  auto read = [&](std::uint64_t at, unsigned bytes, std::uint64_t& entry) {
    // Tables mostly lie in one slot: looked up again only where they do not.
    if (!slot || !slot->holds(at) || slots_.kinds().on()) slot = slots_.find(at);
    if (slot) entry = memory_.peek(slot->hva_of(at), bytes);
    return slot != nullptr;
  };
  return walk_guest_tables(r, gva, read, path);
}

}  // namespace twinwalk
