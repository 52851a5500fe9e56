#ifndef MMU_CORE_TDP_ROOTS_H_
#define MMU_CORE_TDP_ROOTS_H_

// Roots: all vCPUs share one for each RootKey. What makes all translations obsolete at once makes
// its root invalid: vCPUs let go of it at their next entry, meanwhile it is emptied, and whoever
// gives back the last reference frees it (KVM: kvm_tdp_mmu_alloc_root, kvm_tdp_mmu_put_root,
// kvm_tdp_mmu_invalidate_roots, kvm_tdp_mmu_zap_invalidated_roots).

#include "mmu_core/tdp/removal.h"

namespace mmu::tdp {

// Has the vCPU a private root beside the other?
bool has_private(const VcpuState& vcpu);

// Makes the vCPU's roots valid. False: no memory.
bool load_all(VcpuState& vcpu);
// Nothing is loaded afterwards.
void unload(VcpuState& vcpu);
// The same if one that is loaded is invalid, or of another address space.
void unload_obsolete(VcpuState& vcpu);
// Is the root not to be filled any more, or not there?
bool is_stale(const VcpuState& vcpu, bool is_private);

// All translations go, in time that does not depend on them for those who wait for the lock. Takes
// the mmu lock; none is left when it returns but what a module has (external.h), which it could not
// make anew.
void zap_all_fast(VmState& vm);
// The same because this slot goes, for which no fault maps anything any more: with it go the
// module's translations of it (KVM: kvm_mmu_zap_memslot_leafs).
void zap_slot(VmState& vm, const Memslot& slot);
// The VM ends. Precondition: no vCPU has a root loaded.
void destroy(VmState& vm);

// Calls f(Table&) for each root that maps `space`, the invalid ones among them if they are asked
// for: those are walked by hardware until its vCPU enters anew. f may give up the mmu lock
// meanwhile. Precondition: it is held for itself alone.
enum class Which : u8 { kValid, kAll };
template <class F>
void for_each_root(VmState& vm, u32 space, Which which, F&& f);

void get(Table& root);
void put(VmState& vm, Table* root, Removal& removal);

template <class F>
void for_each_root(VmState& vm, u32 space, Which which, F&& f) {
  Removal removal(vm);
  const auto wanted = [&](const Table& root) {
    return root.key.space == space && root.refs != 0 && (which == Which::kAll || !root.invalid);
  };
  Table* root = vm.tdp.roots;
  while (root && !wanted(*root)) root = root->next;
  while (root) {
    get(*root);
    f(*root);
    Table* following = root->next;
    while (following && !wanted(*following)) following = following->next;
    put(vm, root, removal);
    root = following;
  }
  removal.settle();
}

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_ROOTS_H_
