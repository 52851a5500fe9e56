#ifndef MMU_CORE_FAULT_H_
#define MMU_CORE_FAULT_H_

#include "mmu_core/state.h"

namespace mmu {

// KVM: kvm_mmu_page_fault, FNAME(page_fault).
FaultResult handle_fault(VcpuState& vcpu, Gva gva, u32 error_code, bool implicit);

}  // namespace mmu

#endif  // MMU_CORE_FAULT_H_
