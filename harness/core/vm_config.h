#ifndef TWINWALK_HARNESS_CORE_VM_CONFIG_H_
#define TWINWALK_HARNESS_CORE_VM_CONFIG_H_

#include "harness/trace/machine.h"
#include "mmu_core/mmu.h"

namespace twinwalk {

// The machine line in the core's words.
mmu::VmConfig config_of(const Machine& machine);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_VM_CONFIG_H_
