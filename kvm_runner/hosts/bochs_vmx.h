#ifndef TWINWALK_KVM_RUNNER_HOSTS_BOCHS_VMX_H_
#define TWINWALK_KVM_RUNNER_HOSTS_BOCHS_VMX_H_

// Host `bochs-vmx`: a processor with VMX and EPT in Bochs, with a stock Linux and its kvm-intel
// inside, which boots for half a minute each time; or with the bare-metal image of subject
// `core-vmx`, which needs a second.

#include <memory>
#include <string>

#include "kvm_runner/hosts/live_link.h"

namespace twinwalk::hosts {

// Subject `core-vmx`: the bare-metal image on a processor of that model, as `bochs-bin -help cpu`
// names it.
std::unique_ptr<remote::Link> start_bochs_image(const std::string& model, std::string& why);

// `parameters` of kvm-intel, as insmod takes them: "ept=0". Null, and why, if the host cannot be
// had.
std::unique_ptr<remote::Link> start_bochs_vmx(const std::string& parameters, AgentWishes wishes,
                                              std::string& why);

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_BOCHS_VMX_H_
