#ifndef TWINWALK_HARNESS_CORE_FAULT_ANSWER_H_
#define TWINWALK_HARNESS_CORE_FAULT_ANSWER_H_

#include <cstdint>

#include "harness/trace/op.h"
#include "harness/trace/outcome.h"
#include "mmu_core/mmu.h"

namespace twinwalk {

// The core answers a #PF that op's access met on the core's tables, and does the access itself
// where it wants to. True: the access is over, with its outcome; what the core did itself names the
// gpas where it landed.
bool answer_fault(mmu::Vcpu& vcpu, const Op& op, std::uint64_t fault_gva, std::uint32_t error_code,
                  Outcome& out);

// The same of an exit for want of a second-dimension translation.
bool answer_tdp_fault(mmu::Vcpu& vcpu, const Op& op, const mmu::TdpFault& fault, Outcome& out);

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_FAULT_ANSWER_H_
