#include "mmu_core/tdp/change.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/external.h"

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

bool is_mirror(const VmState& vm, Ref ref) { return is_mirror(vm.config, ref.table->key); }

// How the mmu lock is held. Alone: an empty entry stays empty, for whoever fills one has the lock.
enum class Held : u8 { kShared, kAlone };

// Nothing leads to the table any more but walks that were in it: they find frozen entries, or
// nothing (KVM: handle_removed_pt). A module takes its tables back from the lowest up.
void take_down(VmState& vm, Table* table, Held held, Removal& removal) {
  const bool mirror = is_mirror(vm.config, table->key);
  const auto next = [&](unsigned from) {
    return held == Held::kAlone ? first_filled(*table, from, kEntries) : from;
  };
  for (unsigned i = next(0); i < kEntries; i = next(i + 1)) {
    const Ref ref{table, i};
    const u64 was = freeze(vm, ref);
    if (is_table(was, table->level)) take_down(vm, ref.child(), held, removal);
    if (mirror && is_leaf(was, table->level)) external::remove_leaf(vm, ref, was);
  }
  if (mirror) external::free_table(vm, *table);
  count(vm, TdpEvent::kTakeDown, table->level);
  add_tables(vm, ~u64{0});
  removal.condemn(table);
}

void changed(VmState& vm, Ref ref, u64 was, u64 now, Held held, Removal& removal) {
  if (is_frozen(was)) vm.platform.panic("a frozen entry was overwritten");
  if (is_leaf(was, ref.level()) && is_leaf(now, ref.level()) && pfn_of(was) != pfn_of(now))
    vm.platform.panic("a leaf changes its frame without having been zapped");
  if (change_owes_flush(vm.tdp.format, was, now)) removal.owe(ref.gfn(), ref.pages());
  if (is_table(was, ref.level())) take_down(vm, ref.child(), held, removal);
}

// Takes the entry for a moment in which nobody else may touch it. False: it holds something else.
bool try_freeze(VmState& vm, Ref ref, u64 was) {
  if (__atomic_compare_exchange_n(ref.word(), &was, kFrozen, false, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE))
    return true;
  count(vm, TdpEvent::kLostRace, ref.level());
  return false;
}
void thaw(Ref ref, u64 now) { __atomic_store_n(ref.word(), now, __ATOMIC_RELEASE); }

// A leaf where there is none.
bool try_set_mirrored(VmState& vm, Ref ref, u64 was, u64 leaf) {
  if (is_present(was) || !is_leaf(leaf, ref.level()))
    vm.platform.panic("a mirrored entry is changed in place");
  if (!try_freeze(vm, ref, was)) return false;
  vm.platform.yield(YieldPoint::kFrozen, 0);
  const bool done = external::set_leaf(vm, ref, leaf);
  thaw(ref, done ? leaf : was);
  return done;
}

void remove_mirrored(VmState& vm, Ref ref, Removal& removal) {
  const u64 was = freeze(vm, ref);
  if (is_leaf(was, ref.level())) external::remove_leaf(vm, ref, was);
  changed(vm, ref, was, 0, Held::kAlone, removal);
  thaw(ref, 0);
}

}  // namespace

bool try_change(VmState& vm, Ref ref, u64 was, u64 now, Removal& removal) {
  if (is_mirror(vm, ref)) return try_set_mirrored(vm, ref, was, now);
  if (!__atomic_compare_exchange_n(ref.word(), &was, now, false, __ATOMIC_ACQ_REL,
                                   __ATOMIC_ACQUIRE)) {
    count(vm, TdpEvent::kLostRace, ref.level());
    return false;
  }
  changed(vm, ref, was, now, Held::kShared, removal);
  return true;
}

void remove(VmState& vm, Ref ref, Removal& removal) {
  if (is_mirror(vm, ref)) return remove_mirrored(vm, ref, removal);
  const u64 was = __atomic_exchange_n(ref.word(), u64{0}, __ATOMIC_ACQ_REL);
  changed(vm, ref, was, 0, Held::kAlone, removal);
}

u64 clear_bits(VmState& vm, Ref ref, u64 bits, Removal& removal) {
  if (is_mirror(vm, ref)) vm.platform.panic("a mirrored entry is changed in place");
  const u64 was = __atomic_fetch_and(ref.word(), ~bits, __ATOMIC_ACQ_REL);
  changed(vm, ref, was, was & ~bits, Held::kAlone, removal);
  return was;
}

bool try_link(VmState& vm, Ref ref, u64 was, Table* child) {
  if (!try_freeze(vm, ref, was)) return false;
  vm.platform.yield(YieldPoint::kFrozen, 0);
  if (is_mirror(vm, ref) && !external::link(vm, ref, *child)) {
    thaw(ref, was);
    return false;
  }
  child->key = ref.table->key;
  child->base = ref.gfn();
  child->parent = ref.table;
  child->parent_index = ref.index;
  __atomic_store_n(&ref.table->links->child[ref.index], child, __ATOMIC_RELEASE);
  add_tables(vm, 1);
  count(vm, is_present(was) ? TdpEvent::kSplit : TdpEvent::kLink, child->level);
  thaw(ref, make_table(vm.tdp.format, child->hpa, ref.level()));
  return true;
}

}  // namespace mmu::tdp
