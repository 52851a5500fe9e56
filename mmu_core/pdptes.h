#ifndef MMU_CORE_PDPTES_H_
#define MMU_CORE_PDPTES_H_

// The four PDPTEs of PAE paging (KVM: load_pdptrs, mmu->pdptrs).
//
// Intel: registers, loaded by certain writes to control registers and by nothing else; a present
// one with a reserved bit makes the write fault (SDM 3A "PDPTE Registers"). AMD: ordinary entries
// that may be cached (APM 2 "PAE Paging"): the core keeps a copy of them, too, but reads them anew
// whenever the guest may ask for it, and a reserved bit faults at use.

#include "mmu_core/state.h"

namespace mmu::pdptes {

// Fills next.pdpte from the table that next.cr3 names; what lies outside memory is not present.
// False: Intel, and one that is present has a reserved bit: nothing changed.
bool load(const VcpuState& vcpu, CpuRegisters& next);
// The same where nothing can fault: such a one is not present.
void load_at_start(const VcpuState& vcpu, CpuRegisters& next);
// AMD with PAE paging: the copy of the current table is renewed, and the root is let go if it
// changed. Otherwise nothing.
void reread(VcpuState& vcpu);

}  // namespace mmu::pdptes

#endif  // MMU_CORE_PDPTES_H_
