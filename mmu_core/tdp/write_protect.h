#ifndef MMU_CORE_TDP_WRITE_PROTECT_H_
#define MMU_CORE_TDP_WRITE_PROTECT_H_

// (KVM: kvm_tdp_mmu_write_protect_gfn.)

#include "mmu_core/state.h"

namespace mmu::tdp {

// Takes W, and the permission to give it back without asking, from whatever maps gfn; flushes.
// Precondition: mmu lock held for itself alone.
void write_protect_gfn(VmState& vm, u32 space, Gfn gfn);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_WRITE_PROTECT_H_
