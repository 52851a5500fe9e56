#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_PORTS_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_PORTS_H_

#include <cstdint>

namespace twinwalk::vmx {

inline void out8(std::uint16_t port, std::uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void out16(std::uint16_t port, std::uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
inline std::uint8_t in8(std::uint16_t port) {
  std::uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_PORTS_H_
