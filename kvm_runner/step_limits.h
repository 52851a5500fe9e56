#ifndef TWINWALK_KVM_RUNNER_STEP_LIMITS_H_
#define TWINWALK_KVM_RUNNER_STEP_LIMITS_H_

// Which steps subject `kvm` does not execute, and which need a feature that the host lacks.

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"
#include "harness/trace/outcome.h"
#include "kvm_runner/host.h"

namespace twinwalk::kvm {

// Why no step can be executed on a machine; kNone if some can.
SkipReason why_not_machine(const Machine& machine, const Host& host);

// Why a step cannot be executed by a subject on that host; kNone if it can. `registers` are those
// of the step's vCPU.
SkipReason why_not(const Op& op, const Machine& machine, const Registers& registers,
                   const Host& host);

// The registers that `sregs` asks for.
Registers with_sregs(const Op& op, const Registers& now);

// What MOV to a register has as operand: 32 bits outside 64-bit mode.
std::uint64_t operand_of(const Op& op, const Registers& registers);

// Whether a value of CR4 has a bit whose CPUID feature the machine lacks: it is reserved there.
bool sets_lacked_cr4_bit(std::uint64_t value, const Machine& machine);

// The register as it is after a write that the processor accepted. SDM 3A "Control Registers".
void adopt_register(const Op& op, Registers& registers);

// The CPL at which an access runs.
inline std::uint8_t cpl_of(const Op& op, const Registers& registers) {
  return op.gives(Field::kCpl) ? (op.cpl == 3 ? 3 : 0) : registers.cpl;
}

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_STEP_LIMITS_H_
