#ifndef MMU_CORE_TDP_FAULT_H_
#define MMU_CORE_TDP_FAULT_H_

#include "mmu_core/state.h"

namespace mmu::tdp {

enum class Answer : u8 {
  kMapped,  // the access is permitted now
  kRetry,   // something came in between
  kMmio,
  kEmulate,
  kNoMemory,
  kMemoryFault,
  kLater,
  kPoisoned,
};
// `token`: of kLater. Null: the host is waited for, if it has to fetch the page.
Answer answer_fault(VcpuState& vcpu, const TdpFault& fault, u64* token);

// KVM: handle_ept_violation, handle_ept_misconfig, npf_interception; kvm_tdp_page_fault.
FaultResult handle_fault(VcpuState& vcpu, const TdpFault& fault);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_FAULT_H_
