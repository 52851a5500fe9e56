#ifndef TWINWALK_KVM_RUNNER_HOSTS_VMX_KVM_H_
#define TWINWALK_KVM_RUNNER_HOSTS_VMX_KVM_H_

// Host `vmx-kvm`: the bare-metal image of subject `core-vmx` in a virtual machine of this machine's
// own KVM, with nested VMX. It needs a processor with VT-x.

#include <memory>
#include <string>

#include "kvm_runner/remote/remote_subject.h"

namespace twinwalk::hosts {

// Null, and why, if KVM offers its guests no VMX, or QEMU cannot be run.
std::unique_ptr<remote::Link> start_vmx_kvm(std::string& why);

// The same machine by other words of QEMU's: `accelerator` as `-accel` takes it, `processor` as
// `-cpu`. With "tcg" there is no VMX in it, which the image is to say.
std::unique_ptr<remote::Link> start_image_in_qemu(const std::string& accelerator,
                                                  const std::string& processor, std::string& why);

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_VMX_KVM_H_
