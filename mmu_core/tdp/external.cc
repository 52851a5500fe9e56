#include "mmu_core/tdp/external.h"

#include "mmu_core/tdp/counters.h"

namespace mmu::tdp::external {
namespace {

bool told(VmState& vm, bool done, unsigned level) {
  count(vm, done ? TdpEvent::kExternalSet : TdpEvent::kExternalBusy, level);
  return done;
}

void add_leaves(VmState& vm, u64 n) {
  __atomic_fetch_add(&vm.tdp.external_leaves, n, __ATOMIC_RELAXED);
}

}  // namespace

bool link(VmState& vm, Ref ref, const Table& child) {
  return told(vm, vm.platform.link_external_table(ref.gfn(), child.level, child.external),
              ref.level());
}

bool set_leaf(VmState& vm, Ref ref, u64 leaf) {
  if (ref.level() != 1) vm.platform.panic("a module is given a large leaf");
  const bool done = vm.platform.set_external_leaf(ref.gfn(), pfn_of(leaf));
  if (done) add_leaves(vm, 1);
  return told(vm, done, 1);
}

void remove_leaf(VmState& vm, Ref ref, u64 leaf) {
  vm.platform.remove_external_leaf(ref.gfn(), pfn_of(leaf));
  add_leaves(vm, ~u64{0});
  count(vm, TdpEvent::kExternalGone, ref.level());
}

void free_table(VmState& vm, const Table& table) {
  vm.platform.free_external_table(table.base, table.level, table.external);
  count(vm, TdpEvent::kExternalGone, table.level + 1u);
}

}  // namespace mmu::tdp::external
