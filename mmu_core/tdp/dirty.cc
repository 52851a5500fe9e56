#include "mmu_core/tdp/dirty.h"

#include "mmu_core/tdp/breather.h"
#include "mmu_core/tdp/change.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {

void begin_logging(VmState& vm, Locked& lock, const Memslot& slot) {
  const Gfn last = slot.base + (slot.pages - 1);
  for_each_root(vm, slot.space, Which::kValid, [&](Table& root) {
    Removal removal(vm);
    Breather breather(vm, lock);
    for (Iterator it(root, slot.base, last); it.valid(); it.next()) {
      if (breather.breathe(it, removal)) continue;
      if (!is_leaf(it.entry(), it.level()) || !is_writable(vm.tdp.format, it.entry())) continue;
      clear_bits(vm, it.ref(), vm.tdp.format.write, removal);
      count(vm, TdpEvent::kDirtyProtect, it.level());
    }
    removal.settle();
  });
}

void protect(VmState& vm, const Memslot& slot, Gfn first, u64 word, Removal& removal) {
  const Format& f = vm.tdp.format;
  for_each_root(vm, slot.space, Which::kValid, [&](Table& root) {
    const Gfn from = first + static_cast<u64>(__builtin_ctzll(word));
    const Gfn last = first + (63 - static_cast<u64>(__builtin_clzll(word)));
    for (Iterator it(root, from, last); it.valid(); it.next()) {
      if (!is_leaf(it.entry(), it.level()) || !is_writable(f, it.entry())) continue;
      if (it.level() == 1 && !(word >> (it.gfn() - first) & 1)) continue;
      clear_bits(vm, it.ref(), f.write, removal);
      count(vm, TdpEvent::kDirtyProtect, it.level());
    }
  });
}

}  // namespace mmu::tdp
