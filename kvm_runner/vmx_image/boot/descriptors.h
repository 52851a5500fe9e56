#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_BOOT_DESCRIPTORS_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_BOOT_DESCRIPTORS_H_

// GDT, TSS and IDT of the image. VMX wants a TSS; nothing here is ever interrupted, and an
// exception ends the run with a line that says where.

#include <cstdint>

namespace twinwalk::vmx {

inline constexpr std::uint16_t kCodeSelector = 0x08, kDataSelector = 0x10, kTssSelector = 0x18;

struct DescriptorTables {
  std::uint64_t gdt = 0, idt = 0, tss = 0;  // linear addresses
};
// Loads them; to be called once.
DescriptorTables load_descriptor_tables();

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_BOOT_DESCRIPTORS_H_
