#ifndef MMU_CORE_TDP_BREATHER_H_
#define MMU_CORE_TDP_BREATHER_H_

// A walk over a long range lets others have the mmu lock now and then (KVM:
// tdp_mmu_iter_cond_resched).

#include "mmu_core/tdp/iterator.h"
#include "mmu_core/tdp/removal.h"

namespace mmu::tdp {

class Breather {
 public:
  static constexpr u32 kEntriesAtOnce = 128;

  // `lock`: of the mmu, held for itself alone.
  Breather(VmState& vm, Locked& lock) : vm_(vm), lock_(lock) {}

  // To be asked at each entry. True: the lock was given up meanwhile, with the flush paid, and the
  // caller goes on with it.next() at once. The walk's root needs a reference.
  bool breathe(Iterator& it, Removal& removal);

 private:
  VmState& vm_;
  Locked& lock_;
  u32 seen_ = 0;
};

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_BREATHER_H_
