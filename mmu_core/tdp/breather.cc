#include "mmu_core/tdp/breather.h"

#include "mmu_core/tdp/counters.h"

namespace mmu::tdp {

bool Breather::breathe(Iterator& it, Removal& removal) {
  if (++seen_ < kEntriesAtOnce || !it.has_advanced()) {
    if (seen_ < kEntriesAtOnce && !it.entry()) seen_ += it.pass_empty(kEntriesAtOnce - 1 - seen_);
    return false;
  }
  seen_ = 0;
  removal.settle();
  it.note_yield();
  count(vm_, TdpEvent::kYield, it.level());
  lock_.pause(YieldPoint::kMidWalk);
  return true;
}

}  // namespace mmu::tdp
