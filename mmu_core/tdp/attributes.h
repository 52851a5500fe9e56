#ifndef MMU_CORE_TDP_ATTRIBUTES_H_
#define MMU_CORE_TDP_ATTRIBUTES_H_

// Memory attributes: what is private is mapped by the private root alone, the rest by the other
// (KVM: kvm_vm_set_mem_attributes, kvm_arch_post_set_memory_attributes).

#include "mmu_core/state.h"

namespace mmu::tdp {

// What a module maps can be neither write-protected nor logged (VmConfig::external_private): may
// the slot `before` become what the request makes of it? May this gfn be write-tracked?
bool may_be_private(const VmState& vm, const MemslotRequest& request, const Memslot& before);
bool may_be_tracked(const VmState& vm, u32 space, Gfn gfn);

Status set_private(VmState& vm, Gfn gfn, u64 pages, bool is_private);

// Notes for each large page that the slot may hold, and that overlaps [first, last], whether it is
// of both kinds. One that is not all within the slot is never mapped: its note may be anything.
void note_mixed(const Memslot& slot, const PrivateRanges& ranges, Gfn first, Gfn last);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_ATTRIBUTES_H_
