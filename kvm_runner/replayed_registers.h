#ifndef TWINWALK_KVM_RUNNER_REPLAYED_REGISTERS_H_
#define TWINWALK_KVM_RUNNER_REPLAYED_REGISTERS_H_

// The registers of a vCPU as the steps of a run leave them. For telling deviations of KVMs; nothing
// is judged by it.

#include "harness/trace/followed_registers.h"

namespace twinwalk::kvm {

// `op` was done, by the vCPU whose registers these are.
void replay(const Op& op, const Machine& machine, FollowedRegisters& registers);

// As a walk of the guest's tables wants them.
Registers registers_of(const FollowedRegisters& followed);

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_REPLAYED_REGISTERS_H_
