#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_ROOT_MODE_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_ROOT_MODE_H_

// VMX root operation, SDM 3C "Enabling and Entering VMX Operation".

#include <cstdint>
#include <string>

#include "kvm_runner/vmx_image/vmx/capabilities.h"

namespace twinwalk::vmx {

// `region`: a page that stays the processor's. False, and why for a person, if it cannot.
bool enter_root_mode(const Capabilities& capabilities, std::uint64_t region, std::string& why);

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_ROOT_MODE_H_
