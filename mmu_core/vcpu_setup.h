#ifndef MMU_CORE_VCPU_SETUP_H_
#define MMU_CORE_VCPU_SETUP_H_

#include "mmu_core/state.h"

namespace mmu {

// Role of the root page of an address space.
PageRole root_role(const WalkContext& context);
// Registers as a vCPU starts: 64-bit mode, CR3 = 0. Precondition: it holds no roots.
void reset_vcpu(VcpuState& vcpu);
// Nothing that was built or cached for the vCPU is used again.
void forget_translations(VcpuState& vcpu);
// The vCPU goes on with these registers; nothing that was built or cached for the old ones is used
// again (KVM: kvm_mmu_reset_context and a flush of the guest's TLB).
void start_over(VcpuState& vcpu, const CpuRegisters& next);

}  // namespace mmu

#endif  // MMU_CORE_VCPU_SETUP_H_
