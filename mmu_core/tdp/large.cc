#include "mmu_core/tdp/large.h"

#include "mmu_core/notifier.h"
#include "mmu_core/tracking.h"

namespace mmu::tdp {
namespace {

// Does the host take back a part of what a leaf of this level would map?
bool being_invalidated(const VmState& vm, const Memslot& slot, Gfn gfn, unsigned level) {
  const u64 pages = pages_of_level(level);
  const Hva start = slot.hva_of(Gfn{gfn.raw & ~(pages - 1)});
  return notifier::in_progress(vm, start, start + pages * kPageSize);
}

}  // namespace

unsigned largest_level(const VmState& vm, const Memslot& slot, Gfn gfn, u8 host_level) {
  if (!vm.config.options.large_pages) return 1;
  unsigned level = tracking::max_level(slot, gfn);
  if (level > host_level) level = host_level;
  if (level > vm.tdp.format.largest) level = vm.tdp.format.largest;
  while (level > 1 && being_invalidated(vm, slot, gfn, level)) --level;
  return level;
}

bool may_be_large(VmState& vm, const Memslot& slot, Gfn gfn, unsigned level) {
  if (gfn < slot.base || !slot.contains(gfn + (pages_of_level(level) - 1))) return false;
  const FrameLookup f = vm.platform.lookup_frame(slot.hva_of(gfn), false);
  return f.kind == FrameLookup::Kind::kFrame && largest_level(vm, slot, gfn, f.host_level) >= level;
}

}  // namespace mmu::tdp
