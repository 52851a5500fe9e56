#ifndef MMU_CORE_TDP_IDENTITY_MAP_H_
#define MMU_CORE_TDP_IDENTITY_MAP_H_

// A guest without paging on a processor that cannot run one under EPT: it runs with 32-bit paging
// on a page directory that maps each address to itself, in a page of its memory that it does not
// know of (KVM: init_rmode_identity_map).

#include "mmu_core/state.h"

namespace mmu::tdp {

// Writes the directory to VmConfig::identity_map in the vCPU's address space, once for all vCPUs
// until a memslot changes. False: no writable memslot holds the page.
bool write_identity_map(VcpuState& vcpu);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_IDENTITY_MAP_H_
