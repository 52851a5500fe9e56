#include "mmu_core/tdp/write_protect.h"

#include "mmu_core/tdp/change.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/iterator.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {

void write_protect_gfn(VmState& vm, u32 space, Gfn gfn) {
  const u64 rights = vm.tdp.format.write | vm.tdp.format.mmu_writable;
  for_each_root(vm, space, Which::kAll, [&](Table& root) {
    if (is_mirror(vm.config, root.key)) return;  // nothing of it is tracked
    Removal removal(vm);
    for (Iterator it(root, gfn, gfn); it.valid(); it.next()) {
      // W alone would miss an entry that has lost it to the dirty log, and gets it back by a
      // lock-free fault.
      if (!is_leaf(it.entry(), it.level()) || !(it.entry() & rights)) continue;
      clear_bits(vm, it.ref(), rights, removal);
      count(vm, TdpEvent::kTrackProtect, it.level());
    }
    removal.settle();
  });
}

}  // namespace mmu::tdp
