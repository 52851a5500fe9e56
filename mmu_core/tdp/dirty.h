#ifndef MMU_CORE_TDP_DIRTY_H_
#define MMU_CORE_TDP_DIRTY_H_

// The dirty log's side in the tables (KVM: kvm_tdp_mmu_wrprot_slot,
// kvm_tdp_mmu_clear_dirty_pt_masked).

#include "mmu_core/state.h"

namespace mmu::tdp {

// Logging of the slot begins: the next write to each of its pages is noticed. Gives up the lock in
// between, but never with a flush owed.
void begin_logging(VmState& vm, Locked& lock, const Memslot& slot);
// The next write to each page of the slot that `word` names, bit 0 standing for `first`, is
// noticed. The flush is the caller's.
void protect(VmState& vm, const Memslot& slot, Gfn first, u64 word, class Removal& removal);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_DIRTY_H_
