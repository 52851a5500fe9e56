#ifndef TWINWALK_KVM_RUNNER_SUBJECTS_H_
#define TWINWALK_KVM_RUNNER_SUBJECTS_H_

// The subjects that need /dev/kvm. Each is null, and `why` says it to a person, where there is
// none.

#include <memory>
#include <string>

#include "harness/subject.h"

namespace twinwalk {

// `kvm`: the MMU of the host kernel's KVM. A program runs in a VM of its own.
std::unique_ptr<Subject> make_kvm_subject(std::string& why);

// `core-kvm`: mmu_core's shadow tables, walked by the processor of a VM whose guest-physical space
// is the core's host-physical space.
std::unique_ptr<Subject> make_core_kvm_subject(std::string& why);

}  // namespace twinwalk

#endif  // TWINWALK_KVM_RUNNER_SUBJECTS_H_
