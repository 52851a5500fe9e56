#ifndef MMU_CORE_MMIO_H_
#define MMU_CORE_MMIO_H_

// Faults that the core's own MMIO entries cause (KVM: handle_mmio_page_fault).

#include "mmu_core/state.h"

namespace mmu::mmio {

// A fault with RSVD: true, with the gpa, if a current MMIO entry explains it and permits the
// access. False: the entry is of an older memslot generation, or forbids; the ordinary fault path
// decides.
bool handle(VcpuState& vcpu, Gva gva, AccessRequest request, Gpa& gpa);
void forget(VcpuState& vcpu);
void forget(VcpuState& vcpu, Gva gva);

}  // namespace mmu::mmio

#endif  // MMU_CORE_MMIO_H_
