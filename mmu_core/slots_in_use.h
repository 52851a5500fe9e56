#ifndef MMU_CORE_SLOTS_IN_USE_H_
#define MMU_CORE_SLOTS_IN_USE_H_

#include "mmu_core/platform.h"

namespace mmu {

// A context looks at the memslots, with or without a lock: what it sees of them stays until it is
// done, although others may have come in the meantime. Each call of the facade that looks at them
// holds one from its beginning to its end; they nest. Who holds LockId::kSlots needs none, and who
// holds one does not take that lock. KVM: kvm_vcpu_srcu_read_lock.
class SlotsInUse {
 public:
  explicit SlotsInUse(Platform& platform) : platform_(platform) { platform_.begin_using_slots(); }
  ~SlotsInUse() { platform_.end_using_slots(); }
  SlotsInUse(const SlotsInUse&) = delete;
  SlotsInUse& operator=(const SlotsInUse&) = delete;

 private:
  Platform& platform_;
};

}  // namespace mmu

#endif  // MMU_CORE_SLOTS_IN_USE_H_
