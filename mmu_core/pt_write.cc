#include "mmu_core/pt_write.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/quadrant.h"
#include "mmu_core/zap.h"

namespace mmu::pt_write {
namespace {

constexpr u32 kFloodLimit = 3;

// Stores that do not replace one whole entry, or at least an aligned half: the frame is probably no
// table any more, and a half-new entry must not be shadowed (KVM: detect_write_misaligned).
bool misaligned(PageRole role, unsigned offset, unsigned bytes) {
  const bool crosses = ((offset ^ (offset + bytes - 1)) & ~(quadrant::gpte_bytes(role) - 1)) != 0;
  return crosses || bytes < 4;
}

// Level-1 tables go unsync instead, so a flood does not hurt there.
bool flooding(ShadowPage& page) {
  return page.role.level() > 1 && ++page.write_flood >= kFloodLimit;
}

}  // namespace

void track(VmState& vm, u32 space, Gpa gpa, unsigned bytes) {
  const Gfn gfn = Gfn::of(gpa);
  const unsigned offset = static_cast<unsigned>(gpa.raw & (kPageSize - 1));
  bool any_doomed = false;
  pages::for_each_indirect(vm, space, gfn, [&](ShadowPage& page) {
    ++vm.stats.pt_writes;
    const quadrant::Span hit = quadrant::written(page.role, offset);
    if (misaligned(page.role, offset, bytes)) {  // whichever quadrants it touches
      count(vm, Event::kPtWriteMisaligned, page);
      page.doomed = any_doomed = true;
    } else if (!hit.count) {
      return true;
    } else if (flooding(page)) {
      ++vm.stats.floods;
      count(vm, Event::kPtWriteFlood, page);
      page.doomed = any_doomed = true;
    } else {
      count(vm, Event::kPtWrite, page);
      for (unsigned i = 0; i < hit.count; ++i) entries::drop(vm, {&page, hit.first + i});
    }
    return true;
  });
  if (any_doomed) zap::doomed(vm, space, gfn);
}

}  // namespace mmu::pt_write
