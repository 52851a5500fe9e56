#ifndef MMU_CORE_EMULATE_H_
#define MMU_CORE_EMULATE_H_

// Accesses that the core performs itself (KVM: the instruction emulator's memory half,
// emulator_write_phys).

#include "mmu_core/state.h"

namespace mmu::emulate {

EmulateResult linear(VcpuState& vcpu, Gva gva, Access access, unsigned size, u64 value,
                     bool implicit);
EmulateResult physical_write(VcpuState& vcpu, Gpa gpa, unsigned size, u64 value);

}  // namespace mmu::emulate

#endif  // MMU_CORE_EMULATE_H_
