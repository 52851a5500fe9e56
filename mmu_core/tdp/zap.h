#ifndef MMU_CORE_TDP_ZAP_H_
#define MMU_CORE_TDP_ZAP_H_

#include "mmu_core/state.h"
#include "mmu_core/tdp/table.h"

namespace mmu::tdp {

// Every leaf of the private root, or of the other, of address space 0.
void zap_kind(VmState& vm, Locked& lock, bool is_private, Gfn first, Gfn last);
// Everything below a root, which nobody fills any more (KVM: tdp_mmu_zap_root). Gives up the lock
// in between; the root needs a reference.
void zap_root(VmState& vm, Locked& lock, Table& root);
// Every leaf that maps a part of [first, last], in all roots of the space, the invalid ones too:
// hardware may walk them still (KVM: kvm_tdp_mmu_unmap_gfn_range). Tables stay. Gives up the lock
// in between, but never with a flush owed.
void zap_leaves(VmState& vm, Locked& lock, u32 space, Gfn first, Gfn last);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_ZAP_H_
