#ifndef TWINWALK_KVM_RUNNER_HARNESS_IMAGE_H_
#define TWINWALK_KVM_RUNNER_HARNESS_IMAGE_H_

// What the harness pages of layout.h hold: tables, IDTs, GDTs, TSSs, code; and the segment
// registers that go with them.

#include <linux/kvm.h>

#include <cstdint>

#include "kvm_runner/batch_page.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

// Fills harness_page::kCount zeroed pages for that many vCPUs.
void build_harness_image(const Layout& layout, std::uint64_t* words, unsigned vcpus);

// Points segment and descriptor-table registers of vCPU `index` at the image, for CPL 0 of 64-bit
// or 32-bit code.
void set_descriptor_registers(const Layout& layout, bool long_mode, kvm_sregs& sregs,
                              unsigned index);
// CS, SS and the data segments of ring `cpl` (0 or 3) in 64-bit mode.
void set_ring(kvm_sregs& sregs, std::uint8_t cpl);

// The type of a TSS that is not in use.
inline constexpr std::uint8_t kAvailableTss = 9;

// What the interpreter of batches finds for vCPU `index` of 64-bit mode, without commands.
void build_batch_context(const Layout& layout, unsigned index, BatchPage& page);

// What IRET takes from the stack to go to CPL 3 of 32-bit code.
struct UserFrame32 {
  std::uint32_t eip, cs, eflags, esp, ss;
};
UserFrame32 user_frame_32(std::uint64_t eip, std::uint64_t eflags);

// Byte offset in the per-vCPU page of the 16-byte INVPCID descriptor.
inline constexpr std::uint64_t kInvpcidDescriptorOffset = 0x400;
// Linear address of the first byte above the stack of vCPU `index`: every exception frame from
// CPL 3, and in 64-bit mode every one, ends there.
std::uint64_t stack_top(const Layout& layout, bool long_mode, unsigned index);

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_HARNESS_IMAGE_H_
