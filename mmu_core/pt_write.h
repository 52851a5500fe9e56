#ifndef MMU_CORE_PT_WRITE_H_
#define MMU_CORE_PT_WRITE_H_

#include "mmu_core/state.h"

namespace mmu::pt_write {

// An emulated store of `bytes` bytes at gpa of an address space has reached guest memory: brings
// the shadows of that frame in step (KVM: kvm_mmu_track_write). Precondition: within one 4K page;
// mmu lock held; caller commits.
void track(VmState& vm, u32 space, Gpa gpa, unsigned bytes);

}  // namespace mmu::pt_write

#endif  // MMU_CORE_PT_WRITE_H_
