#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_HEX_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_HEX_H_

#include <cstdint>
#include <string>

namespace twinwalk::vmx {

inline std::string hex(std::uint64_t value) {
  std::string text;
  do text.insert(text.begin(), "0123456789abcdef"[value & 15]);
  while ((value >>= 4) != 0);
  return "0x" + text;
}

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_HEX_H_
