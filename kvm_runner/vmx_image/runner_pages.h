#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNNER_PAGES_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNNER_PAGES_H_

// The image's own pages in a guest that owns all of memory and all of the linear space: the stubs,
// and the tables by which one entry of whatever the processor walks leads to them. No stack, no
// IDT: every exception is an exit. All entries have A and D, so that the processor never writes to
// them, and none has XD.
//
//   IA-32e mode   entry 511 of the root; linear kRunnerLinear and up
//   PAE           the PDPTE register, or the PDE below it, of linear addresses kRunnerGpa and up
//   32-bit        the PDE of these
//   none          nothing: linear addresses are physical ones

#include <cstdint>

#include "harness/trace/machine.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/payload/payload.h"

namespace twinwalk::vmx {

namespace runner_page {
// kPml4: a root that leads nowhere else. kDescriptor: what INVPCID reads.
inline constexpr unsigned kPml4 = 0, kPdpt = 1, kPd = 2, kPt = 3, kCode = 4, kUserCode = 5,
                          kDescriptor = 6, kPdPae = 7, kPt32 = 8, kCode32 = 9, kUserCode32 = 10,
                          kCount = 11;
}  // namespace runner_page

inline constexpr std::uint64_t kRunnerLinear = 0xffff'ffff'8000'0000;
// With two dimensions: where a memslot of the core's VM shows them. Below 4 GiB, so that they are
// reached in every mode, above all memory that a trace begins with, and alone in their 4 MiB.
inline constexpr std::uint64_t kRunnerGpa = 0xe540'0000;
inline constexpr std::uint64_t kRunnerSpan = 4 << 20;

constexpr bool overlaps_runner(std::uint64_t gpa, std::uint64_t bytes) {
  return gpa < kRunnerGpa + kRunnerSpan && kRunnerGpa < gpa + bytes;
}

// Of a page, and of a stub that runs at that privilege level, in a guest that is in IA-32e mode or
// not.
constexpr std::uint64_t runner_linear(unsigned page, bool long_mode = true) {
  return (long_mode ? kRunnerLinear : kRunnerGpa) + page * kvm::kPage;
}
std::uint64_t linear_of(kvm::Stub stub, std::uint8_t cpl, bool long_mode = true);
bool is_in_user_code(std::uint64_t linear);
// Whether the byte at that linear address belongs to the image.
constexpr bool reserves(Mode mode, std::uint64_t linear) {
  switch (mode) {
    case Mode::k4Level:
      return linear >= kvm::reserved_linear(4);
    case Mode::k5Level:
      return linear >= kvm::reserved_linear(5);
    default:
      return overlaps_runner(linear, 1);
  }
}

// What has to be where so that the processor finds these pages.
struct RunnerEntry {
  enum class Where : std::uint8_t { kNowhere, kMemory, kPdpte } where = Where::kNowhere;
  std::uint64_t gpa = 0;  // kMemory
  unsigned bytes = 8;
  std::uint64_t value = 0;
};
// `pdpte`: the last of the four registers, in PAE mode.
RunnerEntry runner_entry_of(Mode mode, std::uint64_t cr3, std::uint64_t pdpte);
// Of a shadow root, where the pages begin at that physical address.
std::uint64_t runner_root_entry(std::uint64_t first_page);

// Fills the zeroed page number `page`; `first_page` is where the guest has page 0.
void build_runner_page(unsigned page, std::uint64_t first_page, std::uint64_t* words);

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNNER_PAGES_H_
