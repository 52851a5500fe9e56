#ifndef TWINWALK_KVM_RUNNER_HOSTS_NESTED_VMX_H_
#define TWINWALK_KVM_RUNNER_HOSTS_NESTED_VMX_H_

// Whether a guest of this machine's KVM has VMX: a machine with VT-x whose kvm_intel offers it on.

#include <string>

namespace twinwalk::hosts {

struct NestedVmx {
  std::string device_error;  // why /dev/kvm cannot be asked; empty if it can
  bool in_cpuid = false;     // VMX is among what it can offer a guest
  std::string module;        // "kvm_intel", "kvm_amd", "kvm_pvm"; empty if none of these is loaded
  std::string nested;        // that module's parameter, "Y" or "N"; empty if it has none
};
// `modules`: the kernel's folder of loaded modules.
NestedVmx look_at_nested_vmx(const std::string& device = "/dev/kvm",
                             const std::string& modules = "/sys/module");

// What is missing, and what helps, in one line; empty if nothing is.
std::string why_no_nested_vmx(const NestedVmx& found);

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_NESTED_VMX_H_
