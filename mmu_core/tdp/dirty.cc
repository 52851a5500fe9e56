#include "mmu_core/tdp/dirty.h"

#include "mmu_core/tdp/breather.h"
#include "mmu_core/tdp/change.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/tdp/roots.h"
#include "mmu_core/tdp/split.h"

namespace mmu::tdp {

namespace {

// Makes the next write to what the leaf maps a change that is noticed. With a log of the hardware's
// that is D of a small page; a large one is written through a fault, which splits it.
void expect_write(VmState& vm, const Iterator& it, Removal& removal) {
  const Format& f = vm.tdp.format;
  if (!is_leaf(it.entry(), it.level()) || !is_writable(f, it.entry())) return;
  const bool by_d = it.level() == 1 && pml::in_use(vm);
  if (by_d && !(it.entry() & f.dirty)) return;
  clear_bits(vm, it.ref(), by_d ? f.dirty : f.write, removal);
  count(vm, by_d ? TdpEvent::kDirtyClear : TdpEvent::kDirtyProtect, it.level());
}

}  // namespace

void begin_logging(VmState& vm, Locked& lock, const Memslot& slot) {
  const Gfn last = slot.base + (slot.pages - 1);
  if (vm.config.options.eager_split) split_range(vm, lock, slot, slot.base, last);
  for_each_root(vm, slot.space, Which::kValid, [&](Table& root) {
    Removal removal(vm);
    Breather breather(vm, lock);
    for (Iterator it(root, slot.base, last); it.valid(); it.next()) {
      if (breather.breathe(it, removal)) continue;
      expect_write(vm, it, removal);
    }
    removal.settle();
  });
}

void protect(VmState& vm, const Memslot& slot, Gfn first, u64 word, Removal& removal) {
  const Gfn from = first + static_cast<u64>(__builtin_ctzll(word));
  const Gfn last = first + (63 - static_cast<u64>(__builtin_clzll(word)));
  for_each_root(vm, slot.space, Which::kValid, [&](Table& root) {
    if (is_mirror(vm.config, root.key)) return;  // no logged slot has anything there
    for (Iterator it(root, from, last); it.valid(); it.next())
      if (it.level() > 1 || (word >> (it.gfn() - first) & 1)) expect_write(vm, it, removal);
  });
}

}  // namespace mmu::tdp
