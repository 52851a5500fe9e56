#ifndef TWINWALK_KVM_RUNNER_PLACE_H_
#define TWINWALK_KVM_RUNNER_PLACE_H_

// Finds a place for the runner beside a program: by what the program says it uses.

#include "harness/trace/program.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

// Whether some vCPU may be outside IA-32e mode at some time.
bool visits_legacy_mode(const Program& program);

// For a program that does: a base below 4 GiB where no memslot of it ever is, in a PDPTE and a PDE
// that none of its steps uses, as far as there are such. For others the usual one.
Layout place_for(const Program& program);

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_PLACE_H_
