#ifndef MMU_CORE_ASYNC_FAULT_H_
#define MMU_CORE_ASYNC_FAULT_H_

// Faults whose frame the host has to fetch first, while the vCPU may do something else (KVM:
// kvm_arch_setup_async_pf, kvm_arch_async_page_ready).
//
//   fault ──► look_up ──► "later" ──► kLater, token      the vCPU is not entered, or for others
//   only
//                                        │ the host has the page
//                                        ▼
//             ready(token) ──► still the same tables? mapped ahead : dropped ──► the vCPU goes on

#include "mmu_core/async_state.h"
#include "mmu_core/state.h"

namespace mmu::async {

// The frame of a fault, without waiting if the host wants to. Of kLater the token is in
// `fault.token`; a page that is waited for already is so under its first token. Whatever cannot be
// noted is waited for.
FrameLookup look_up(VcpuState& vcpu, AsyncFault& fault, Hva hva, bool write);

// See Vcpu::async_page_ready.
bool ready(VcpuState& vcpu, u64 token);

// The vCPU waits for nothing any more.
void forget(VcpuState& vcpu);

}  // namespace mmu::async

#endif  // MMU_CORE_ASYNC_FAULT_H_
