#ifndef TWINWALK_KVM_RUNNER_HARNESS_IMAGE_H_
#define TWINWALK_KVM_RUNNER_HARNESS_IMAGE_H_

// What the harness pages of layout.h hold: tables, IDT, GDT, TSS, code; and the segment registers
// that go with them.

#include <linux/kvm.h>

#include <cstdint>

namespace twinwalk::kvm {

// Fills harness_page::kCount zeroed pages for that many vCPUs.
void build_harness_image(std::uint64_t* words, unsigned vcpus);

// Points segment and descriptor-table registers of vCPU `index` at the image, for CPL 0.
void set_descriptor_registers(kvm_sregs& sregs, unsigned index);
// CS, SS and the data segments of ring `cpl` (0 or 3).
void set_ring(kvm_sregs& sregs, std::uint8_t cpl);

// Byte offset in the per-vCPU page of the 16-byte INVPCID descriptor.
inline constexpr std::uint64_t kInvpcidDescriptorOffset = 0x400;
// Linear address of the first byte above the stack of vCPU `index`: every exception frame ends
// there (IST 1).
std::uint64_t stack_top(unsigned index);

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_HARNESS_IMAGE_H_
