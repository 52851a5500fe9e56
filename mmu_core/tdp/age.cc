#include "mmu_core/tdp/age.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/iterator.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

void make_old(const Format& f, Ref ref) {
  if (f.ad) {
    __atomic_fetch_and(ref.word(), ~f.accessed, __ATOMIC_ACQ_REL);
    return;
  }
  u64 was = ref.load();
  // A lock-free fault may give it W at the same time.
  while (!__atomic_compare_exchange_n(ref.word(), &was, tracking_access(f, was), false,
                                      __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
  }
}

}  // namespace

bool age(VmState& vm, u32 space, Gfn first, Gfn last, bool clear) {
  const Format& f = vm.tdp.format;
  bool young = false;
  for_each_root(vm, space, Which::kValid, [&](Table& root) {
    for (Iterator it(root, first, last); it.valid(); it.next()) {
      if (!is_leaf(it.entry(), it.level()) || !was_accessed(f, it.entry())) continue;
      young = true;
      if (clear) make_old(f, it.ref());
      count(vm, TdpEvent::kAge, it.level());
    }
  });
  return young;
}

}  // namespace mmu::tdp
