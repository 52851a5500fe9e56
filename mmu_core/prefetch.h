#ifndef MMU_CORE_PREFETCH_H_
#define MMU_CORE_PREFETCH_H_

#include "mmu_core/state.h"

namespace mmu {

// Fills empty neighbours of a leaf just installed in a level-1 indirect page, where the guest's
// entries are present, accessed and without reserved bits (KVM: FNAME(pte_prefetch)). Never makes a
// table unsync.
void prefetch(VcpuState& vcpu, ShadowPage& page, unsigned index);

}  // namespace mmu

#endif  // MMU_CORE_PREFETCH_H_
