#ifndef TWINWALK_HARNESS_CORE_EPT_EXIT_H_
#define TWINWALK_HARNESS_CORE_EPT_EXIT_H_

// What the hardware tells of an exit by EPT, in the core's words. SDM 3C §"EPT Violations",
// §"Exit Qualification for EPT Violations".

#include <cstdint>

#include "harness/trace/x86.h"
#include "mmu_core/mmu.h"

namespace twinwalk {

// The part of both that the address decides. `shared_bit`: VmConfig::shared_bit.
inline mmu::TdpFault fault_at(std::uint64_t gpa, std::uint64_t shared_bit) {
  mmu::TdpFault fault;
  fault.gpa = mmu::Gpa{gpa};
  fault.is_private = shared_bit != 0 && (gpa & shared_bit) == 0;
  return fault;
}

inline mmu::TdpFault fault_of_violation(std::uint64_t gpa, std::uint64_t qualification,
                                        std::uint64_t shared_bit) {
  constexpr std::uint64_t kRights =
      eqx::kReadable | eqx::kWritable | eqx::kExecutable | eqx::kUserExecutable;
  mmu::TdpFault fault = fault_at(gpa, shared_bit);
  fault.read = qualification & eqx::kRead;
  fault.write = qualification & eqx::kWrite;
  fault.fetch = qualification & eqx::kFetch;
  fault.present = qualification & kRights;
  fault.table = (qualification & eqx::kGvaValid) && !(qualification & eqx::kFinal);
  fault.user_fetch = fault.fetch && (qualification & eqx::kGuestUser);
  return fault;
}

inline mmu::TdpFault fault_of_misconfiguration(std::uint64_t gpa, std::uint64_t shared_bit) {
  mmu::TdpFault fault = fault_at(gpa, shared_bit);
  fault.reserved = fault.present = true;
  return fault;
}

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_EPT_EXIT_H_
