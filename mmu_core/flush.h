#ifndef MMU_CORE_FLUSH_H_
#define MMU_CORE_FLUSH_H_

// Who owes the hardware which TLB flush. Whatever removes or narrows a
// translation says so with owe(), in the same breath; pay() or a wider flush
// settles it before the mmu lock is dropped (audit: flush_owed is false outside).

#include "mmu_core/state.h"

namespace mmu::flush {

inline void owe(VmState& vm) { vm.flush_owed = true; }
// Issues a flush of everything on all vCPUs if one is owed (KVM: kvm_flush_remote_tlbs).
void pay(VmState& vm);
void all(VmState& vm);
// What translates [gfn, gfn + pages) of the second dimension (KVM: kvm_flush_remote_tlbs_range).
void range(VmState& vm, Gfn gfn, u64 pages);
// The current PCID of one vCPU: its address space changed (KVM: kvm_x86_flush_tlb_current).
void current(VcpuState& vcpu);
// One linear address in the current PCID of one vCPU (KVM: kvm_x86_flush_tlb_gva).
void address(VcpuState& vcpu, Gva gva);

u16 hardware_pcid(const VcpuState& vcpu);

}  // namespace mmu::flush

#endif  // MMU_CORE_FLUSH_H_
