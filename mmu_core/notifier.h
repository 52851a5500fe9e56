#ifndef MMU_CORE_NOTIFIER_H_
#define MMU_CORE_NOTIFIER_H_

// The host takes frames back, or moves them (KVM: kvm_mmu_notifier_*, kvm_unmap_gfn_range,
// mmu_invalidate_retry).

#include "mmu_core/state.h"

namespace mmu::notifier {

// Taken before a frame is looked up; changed() asks under the lock whether the frame may have gone
// since.
struct Snapshot {
  u64 sequence = 0;
};
Snapshot snapshot(const VmState& vm);
bool changed(const VmState& vm, Snapshot seen, Hva hva);
// True if a part of [start, end) is being invalidated now. A large page may reach into such a range
// although the address that faulted is outside.
bool in_progress(const VmState& vm, Hva start, Hva end);

void begin(VmState& vm, Hva start, Hva end);
void end(VmState& vm, Hva start, Hva end);
bool age(VmState& vm, Hva start, Hva end, bool clear);

}  // namespace mmu::notifier

#endif  // MMU_CORE_NOTIFIER_H_
