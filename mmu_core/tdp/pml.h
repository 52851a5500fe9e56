#ifndef MMU_CORE_TDP_PML_H_
#define MMU_CORE_TDP_PML_H_

// Page-modification logging: while some memslot is logged the hardware notes each gpa whose D it
// sets in a page of the vCPU's, from the last entry down (SDM 3C "Page-Modification Logging"; KVM:
// vmx_flush_pml_buffer). An entry that was seen is overwritten with what is no gpa, so that
// whatever else is there is still to be logged. Who takes the dirty log does not wait for the vCPUs
// to flush theirs: it looks at the pages while the hardware fills them, and leaves to each vCPU
// what only that may do.

#include "mmu_core/state.h"

namespace mmu::pml {

inline constexpr unsigned kEntries = 512;
inline constexpr u64 kSeen = ~u64{0};
inline constexpr u64 kInLog = 1;      // in an entry: the dirty log has it, the vCPU's ring may not
inline constexpr u16 kFull = 0xffff;  // the hardware's index after the entry 0

// Is dirtiness of small pages told by D and this log, not by write protection?
inline bool in_use(const VmState& vm) {
  return vm.tdp.on && vm.tdp.format.ept && vm.tdp.format.ad && vm.config.tdp.pml;
}
// The page of this vCPU, for the hardware; Hpa{} while there is nothing to log. False: no memory.
bool prepare(VcpuState& vcpu, Hpa& page);
// Logs the entries behind `index`, which is the hardware's at an exit.
void flush(VcpuState& vcpu, u16 index);
// Logs whatever is there: the host wants to know now. Under the mmu lock, alone.
void flush_all(VmState& vm);
// The vCPU ends, or starts anew. Under the mmu lock, alone, or nobody else is left.
void release(VcpuState& vcpu);
// Is the gfn in a page, waiting?
bool holds(const VmState& vm, u32 space, Gfn gfn);

}  // namespace mmu::pml

#endif  // MMU_CORE_TDP_PML_H_
