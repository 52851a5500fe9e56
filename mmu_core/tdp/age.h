#ifndef MMU_CORE_TDP_AGE_H_
#define MMU_CORE_TDP_AGE_H_

#include "mmu_core/state.h"

namespace mmu::tdp {

// Was a page of [first, last] accessed since the last time that `clear` was true (KVM:
// kvm_tdp_mmu_age_gfn_range, kvm_tdp_mmu_test_age_gfn)? No flush: a translation that stays cached
// makes the page look older than it is, no more. Invalid roots do not count.
bool age(VmState& vm, u32 space, Gfn first, Gfn last, bool clear);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_AGE_H_
