#include "mmu_core/tdp/change.h"

#include "mmu_core/tdp/counters.h"

namespace mmu::tdp {
namespace {

void add_tables(VmState& vm, u64 n) { __atomic_fetch_add(&vm.tdp.tables, n, __ATOMIC_RELAXED); }

// Another vCPU that holds the mmu lock shared may be linking something here.
u64 freeze(VmState& vm, Ref ref) {
  for (;;) {
    const u64 was = __atomic_exchange_n(ref.word(), kFrozen, __ATOMIC_ACQ_REL);
    if (!is_frozen(was)) return was;
    vm.platform.yield(YieldPoint::kFrozen, 0);
  }
}

// Nothing leads to the table any more but walks that were in it: they find frozen entries (KVM:
// handle_removed_pt).
void take_down(VmState& vm, Table* table, Removal& removal) {
  for (unsigned i = 0; i < kEntries; ++i) {
    const Ref ref{table, i};
    if (is_table(freeze(vm, ref), table->level)) take_down(vm, ref.child(), removal);
  }
  count(vm, TdpEvent::kTakeDown, table->level);
  add_tables(vm, ~u64{0});
  removal.condemn(table);
}

void changed(VmState& vm, Ref ref, u64 was, u64 now, Removal& removal) {
  if (is_frozen(was)) vm.platform.panic("a frozen entry was overwritten");
  if (is_leaf(was, ref.level()) && is_leaf(now, ref.level()) && pfn_of(was) != pfn_of(now))
    vm.platform.panic("a leaf changes its frame without having been zapped");
  if (change_owes_flush(vm.tdp.format, was, now)) removal.owe(ref.gfn(), ref.pages());
  if (is_table(was, ref.level())) take_down(vm, ref.child(), removal);
}

}  // namespace

bool try_change(VmState& vm, Ref ref, u64 was, u64 now, Removal& removal) {
  if (!__atomic_compare_exchange_n(ref.word(), &was, now, false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE)) {
    count(vm, TdpEvent::kLostRace, ref.level());
    return false;
  }
  changed(vm, ref, was, now, removal);
  return true;
}

u64 change(VmState& vm, Ref ref, u64 now, Removal& removal) {
  const u64 was = __atomic_exchange_n(ref.word(), now, __ATOMIC_ACQ_REL);
  changed(vm, ref, was, now, removal);
  return was;
}

u64 clear_bits(VmState& vm, Ref ref, u64 bits, Removal& removal) {
  const u64 was = __atomic_fetch_and(ref.word(), ~bits, __ATOMIC_ACQ_REL);
  changed(vm, ref, was, was & ~bits, removal);
  return was;
}

bool try_link(VmState& vm, Ref ref, u64 was, Table* child) {
  if (!__atomic_compare_exchange_n(ref.word(), &was, kFrozen, false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE)) {
    count(vm, TdpEvent::kLostRace, ref.level());
    return false;
  }
  vm.platform.yield(YieldPoint::kFrozen, 0);
  child->key = ref.table->key;
  child->base = ref.gfn();
  child->parent = ref.table;
  child->parent_index = ref.index;
  __atomic_store_n(&ref.table->links->child[ref.index], child, __ATOMIC_RELEASE);
  add_tables(vm, 1);
  count(vm, is_present(was) ? TdpEvent::kSplit : TdpEvent::kLink, child->level);
  __atomic_store_n(ref.word(), make_table(vm.tdp.format, child->hpa, ref.level()),
                   __ATOMIC_RELEASE);
  return true;
}

}  // namespace mmu::tdp
