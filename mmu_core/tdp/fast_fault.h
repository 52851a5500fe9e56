#ifndef MMU_CORE_TDP_FAST_FAULT_H_
#define MMU_CORE_TDP_FAST_FAULT_H_

// A fault that only the core's own narrowing of a leaf has caused is answered without any lock: W
// that dirty logging took comes back, and rights that were hidden to notice an access (KVM:
// fast_page_fault). A compare-and-exchange sees to it that nothing else has happened to the leaf;
// the transitions are from and to the same frame, for the same gfn.

#include "mmu_core/tdp/map.h"

namespace mmu::tdp {

// True: the access is permitted now.
bool fast_fault(VcpuState& vcpu, const Fault& fault);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_FAST_FAULT_H_
