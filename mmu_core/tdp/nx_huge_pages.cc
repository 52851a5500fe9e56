#include "mmu_core/tdp/nx_huge_pages.h"

#include "mmu_core/tdp/breather.h"
#include "mmu_core/tdp/change.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

// What is logged stays in small pages anyway. The memslot is that of the root's own address space.
bool worth_it(VmState& vm, const Table& root, Gfn gfn) {
  const Memslot* const slot = vm.spaces[root.key.space].slots.find(gfn);
  return slot && !slot->log_dirty;
}

u64 recover_in(VmState& vm, Locked& lock, Table& root, u64 most) {
  Removal removal(vm);
  Breather breather(vm, lock);
  u64 done = 0;
  const Gfn last{(u64{1} << (vm.tdp.format.gpa_bits - 12)) - 1};
  for (Iterator it(root, Gfn{0}, last, 2); done < most && it.valid(); it.next()) {
    if (breather.breathe(it, removal)) continue;
    const Ref ref = it.ref();
    if (!is_table(it.entry(), it.level()) || !ref.child()->for_execution) continue;
    if (!worth_it(vm, root, it.gfn())) continue;
    remove(vm, ref, removal);
    count(vm, TdpEvent::kNxRecover, it.level());
    ++done;
  }
  removal.settle();
  return done;
}

}  // namespace

u64 recover_nx_huge_pages(VmState& vm, u64 most) {
  Locked lock(vm, LockId::kMmu);
  u64 done = 0;
  for (u32 space = 0; space < kAddressSpaces; ++space)
    for_each_root(vm, space, Which::kValid,
                  [&](Table& root) { done += recover_in(vm, lock, root, most - done); });
  return done;
}

}  // namespace mmu::tdp
