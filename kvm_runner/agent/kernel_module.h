#ifndef TWINWALK_KVM_RUNNER_AGENT_KERNEL_MODULE_H_
#define TWINWALK_KVM_RUNNER_AGENT_KERNEL_MODULE_H_

// Kernel modules of the emulated host, from the files that its initrd has.

#include <string>

namespace twinwalk::agent {

// `name`: of the file /modules/NAME.ko; `parameters` as on the command line of insmod. A module
// that is loaded already, or that this kernel has built in, is no error. False, and why, otherwise.
bool load_module(const std::string& name, const std::string& parameters, std::string& why);
// One that is not loaded is no error.
bool unload_module(const std::string& name, std::string& why);

}  // namespace twinwalk::agent

#endif  // TWINWALK_KVM_RUNNER_AGENT_KERNEL_MODULE_H_
