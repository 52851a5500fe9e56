#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_PORTS_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_PORTS_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace twinwalk::vmx {

inline void out8(std::uint16_t port, std::uint8_t value) {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void out16(std::uint16_t port, std::uint16_t value) {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
// One byte after the other; below a hypervisor with one exit for many.
inline void out8_all(std::uint16_t port, std::string_view bytes) {
  const char* first = bytes.data();
  std::size_t count = bytes.size();
  asm volatile("rep outsb" : "+S"(first), "+c"(count) : "d"(port) : "memory");
}
inline std::uint8_t in8(std::uint16_t port) {
  std::uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNTIME_PORTS_H_
