#ifndef MMU_CORE_TDP_DIRTY_RING_H_
#define MMU_CORE_TDP_DIRTY_RING_H_

// Options::dirty_ring: the pages that a vCPU makes dirty, in order and beside the dirty log (KVM:
// kvm_dirty_ring, with its backup bitmap). A page may be there several times. The ring is to be
// taken before it is full: a vCPU whose ring is half full, or has what the host wants at most
// (VmConfig::dirty_ring_limit), is not entered. Should it be full all the
// same, because the host had the core write for the guest again and again, the log alone knows what
// came after.

#include "mmu_core/state.h"

namespace mmu {

struct DirtyRing {
  static constexpr u32 kRoom = 2048;
  // The rest is for what comes up before the next entry: a full log of the hardware's, above all.
  static constexpr u32 kHalfFull = kRoom / 2;
  u64 word[kRoom];
  u32 first = 0, count = 0;
};

namespace dirty_ring {

// False: no memory. Nothing without the option.
bool prepare(VcpuState& vcpu);
bool is_due(const VcpuState& vcpu);
// The vCPU has written, or may write from now on; into the ring only if the slot is logged.
void push(VcpuState& vcpu, const Memslot& slot, Gfn gfn);
// Into the log and the ring.
void mark(VcpuState& vcpu, const Memslot& slot, Gfn gfn);
u32 take(VcpuState& vcpu, Gfn* gfns, u32 most);
void release(VcpuState& vcpu);

}  // namespace dirty_ring
}  // namespace mmu

#endif  // MMU_CORE_TDP_DIRTY_RING_H_
