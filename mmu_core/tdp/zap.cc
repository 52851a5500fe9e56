#include "mmu_core/tdp/zap.h"

#include "mmu_core/tdp/breather.h"
#include "mmu_core/tdp/change.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

Gfn last_gfn(const Format& f) { return Gfn{(u64{1} << (f.gpa_bits - 12)) - 1}; }

// Entries of one level, with all that hangs below.
void zap_level(VmState& vm, Locked& lock, Table& root, unsigned level) {
  Removal removal(vm);
  Breather breather(vm, lock);
  for (Iterator it(root, Gfn{0}, last_gfn(vm.tdp.format), level); it.valid(); it.next()) {
    if (breather.breathe(it, removal)) continue;
    if (it.level() > level || !it.entry()) continue;
    remove(vm, it.ref(), removal);
  }
  removal.settle();
}

void zap_leaves_of(VmState& vm, Locked& lock, Table& root, Gfn first, Gfn last) {
  Removal removal(vm);
  Breather breather(vm, lock);
  for (Iterator it(root, first, last); it.valid(); it.next()) {
    if (breather.breathe(it, removal)) continue;
    if (!is_leaf(it.entry(), it.level())) continue;
    remove(vm, it.ref(), removal);
    count(vm, TdpEvent::kZapLeaf, it.level());
  }
  removal.settle();
}

}  // namespace

// From small subtrees to large ones: nobody waits for a whole tree to be taken down.
void zap_root(VmState& vm, Locked& lock, Table& root) {
  for (unsigned level = 2; level <= root.level; ++level) zap_level(vm, lock, root, level);
}

void zap_leaves(VmState& vm, Locked& lock, u32 space, Gfn first, Gfn last) {
  for_each_root(vm, space, Which::kAll,
                [&](Table& root) { zap_leaves_of(vm, lock, root, first, last); });
}

void zap_kind(VmState& vm, Locked& lock, bool is_private, Gfn first, Gfn last) {
  for_each_root(vm, 0, Which::kAll, [&](Table& root) {
    if (root.key.is_private == is_private) zap_leaves_of(vm, lock, root, first, last);
  });
}

}  // namespace mmu::tdp
