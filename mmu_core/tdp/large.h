#ifndef MMU_CORE_TDP_LARGE_H_
#define MMU_CORE_TDP_LARGE_H_

// How large a page may be mapped (KVM: kvm_mmu_max_mapping_level, kvm_mmu_hugepage_adjust).

#include "mmu_core/state.h"

namespace mmu::tdp {

// By slot, options, hardware and host; `host_level` is that of the host page that backs gfn. Not
// more than 1 where the host takes back a part of the larger page.
unsigned largest_level(const VmState& vm, const Memslot& slot, Gfn gfn, u8 host_level);
// Could what starts at gfn be one page of this level? Asks the host.
bool may_be_large(VmState& vm, const Memslot& slot, Gfn gfn, unsigned level);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_LARGE_H_
