#ifndef TWINWALK_KVM_RUNNER_HOSTS_QEMU_SVM_H_
#define TWINWALK_KVM_RUNNER_HOSTS_QEMU_SVM_H_

// Host `qemu-svm`: QEMU's own emulation of a processor with SVM and nested paging, with a stock
// Linux and its kvm-amd inside.
//
// The first start boots (some seconds) and saves the machine's state as soon as the agent answers;
// later ones go on from there. The file is named by all that decides the state, so that a new
// kernel, agent or QEMU makes a new one.

#include <memory>
#include <string>

#include "kvm_runner/hosts/live_link.h"

namespace twinwalk::hosts {

// `parameters` of kvm-amd, as insmod takes them: "npt=0". Null, and why, if the host cannot be had.
std::unique_ptr<remote::Link> start_qemu_svm(const std::string& parameters, AgentWishes wishes,
                                             std::string& why);

// Whether the next start goes on from a saved state.
bool qemu_svm_is_saved();

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_QEMU_SVM_H_
