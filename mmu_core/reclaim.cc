#include "mmu_core/reclaim.h"

#include "mmu_core/counters.h"
#include "mmu_core/roots.h"
#include "mmu_core/zap.h"

namespace mmu::reclaim {
namespace {

u32 available(const VmState& vm) {
  const u32 used = vm.pages.used + vm.pages.invalid_roots;
  return vm.config.quota > used ? vm.config.quota - used : 0;
}

}  // namespace

u32 zap_oldest(VmState& vm, u32 want) {
  const u64 before = vm.stats.zaps;
  for (ShadowPage* p = vm.pages.oldest; p && vm.stats.zaps - before < want;) {
    if (p->root_count) {  // would only force its vCPU to build it again
      p = p->prev;
      continue;
    }
    count(vm, Event::kReclaim, *p);
    ++vm.stats.recycled;
    zap::page(vm, p);
    p = vm.pages.oldest;  // zapping one may take others along
  }
  return static_cast<u32>(vm.stats.zaps - before);
}

bool make_pages_available(VmState& vm) {
  if (available(vm) >= kMinFree) return true;
  zap_oldest(vm, kMinFree * 2 - available(vm));
  if (available(vm) < kMinFree) {
    for (u32 i = 0; i < vm.config.vcpus; ++i) roots::free_previous(vm.vcpu[i]);
    zap_oldest(vm, kMinFree);
  }
  zap::commit(vm);
  return available(vm) >= kMinFree;
}

}  // namespace mmu::reclaim
