#ifndef MMU_CORE_FAULT_H_
#define MMU_CORE_FAULT_H_

#include "mmu_core/state.h"

namespace mmu {

// KVM: kvm_mmu_page_fault, FNAME(page_fault).
FaultResult handle_fault(VcpuState& vcpu, Gva gva, u32 error_code, bool implicit);

// Maps what this access, were it no write, would fault in now. Neither A nor D of a guest's entry
// is set, and nothing happens where the access would need that, or is not permitted (KVM: the
// `prefetch` of struct kvm_page_fault).
void map_ahead(VcpuState& vcpu, Gva gva, AccessRequest request);

}  // namespace mmu

#endif  // MMU_CORE_FAULT_H_
