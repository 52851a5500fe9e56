#include "mmu_core/tdp/age.h"

#include "mmu_core/tdp/change.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/iterator.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

// That A is gone needs no flush: the page only looks older than it is. Rights that are gone do:
// whatever narrows the entry further takes it that no processor has more than it says.
void make_old(VmState& vm, Ref ref, Removal& removal) {
  const Format& f = vm.tdp.format;
  if (f.ad) {
    __atomic_fetch_and(ref.word(), ~f.accessed, __ATOMIC_ACQ_REL);
    return;
  }
  // A lock-free fault may give it W at the same time.
  for (u64 was = ref.load(); !try_change(vm, ref, was, tracking_access(f, was), removal);)
    was = ref.load();
}

}  // namespace

bool age(VmState& vm, u32 space, Gfn first, Gfn last, bool clear) {
  const Format& f = vm.tdp.format;
  bool young = false;
  for_each_root(vm, space, Which::kValid, [&](Table& root) {
    if (is_mirror(vm.config, root.key))
      return;  // the core does not see what the hardware sets there
    Removal removal(vm);
    for (Iterator it(root, first, last); it.valid(); it.next()) {
      if (!is_leaf(it.entry(), it.level()) || !was_accessed(f, it.entry())) continue;
      young = true;
      if (clear) make_old(vm, it.ref(), removal);
      count(vm, TdpEvent::kAge, it.level());
    }
    removal.settle();
  });
  return young;
}

}  // namespace mmu::tdp
