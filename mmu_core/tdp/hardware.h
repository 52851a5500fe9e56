#ifndef MMU_CORE_TDP_HARDWARE_H_
#define MMU_CORE_TDP_HARDWARE_H_

// What the hardware is entered with under two-dimensional paging.

#include "mmu_core/state.h"

namespace mmu::tdp {

// KVM: vcpu_enter_guest's requests, kvm_mmu_load, vmx_load_mmu_pgd, vmx_set_cr0, vmx_set_cr4.
EntryState enter(VcpuState& vcpu);
// Nothing that was cached for the vCPU before is used again: the host changed what it is.
void start_over(VcpuState& vcpu);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_HARDWARE_H_
