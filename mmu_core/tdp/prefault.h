#ifndef MMU_CORE_TDP_PREFAULT_H_
#define MMU_CORE_TDP_PREFAULT_H_

#include "mmu_core/state.h"

namespace mmu::tdp {

// Maps [gpa, gpa + pages * 4K) as if each page were read, up to the first that cannot be; how many
// pages are (KVM: kvm_arch_vcpu_pre_fault_memory).
u64 prefault(VcpuState& vcpu, Gpa gpa, u64 pages);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_PREFAULT_H_
