#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNNER_PAGES_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNNER_PAGES_H_

// The image's own pages in a guest that owns all of memory and all of the linear space: the stubs,
// and the tables by which the last entry of whatever root the processor walks leads to them. No
// stack, no IDT: every exception is an exit. All entries have A and D, so that the processor never
// writes to them, and none has XD.

#include <cstdint>

#include "kvm_runner/layout.h"
#include "kvm_runner/payload/payload.h"

namespace twinwalk::vmx {

namespace runner_page {
// kPml4: a root that leads nowhere else. kDescriptor: what INVPCID reads.
inline constexpr unsigned kPml4 = 0, kPdpt = 1, kPd = 2, kPt = 3, kCode = 4, kUserCode = 5,
                          kDescriptor = 6, kCount = 7;
}  // namespace runner_page

inline constexpr std::uint64_t kRunnerLinear = 0xffff'ffff'8000'0000;
// With two dimensions: where a memslot of the core's VM shows them.
inline constexpr std::uint64_t kRunnerGpa = kvm::kHarnessGpa;

constexpr std::uint64_t runner_linear(unsigned page) { return kRunnerLinear + page * kvm::kPage; }
// Of a stub that runs at that privilege level.
inline std::uint64_t linear_of(kvm::Stub stub, std::uint8_t cpl) {
  return runner_linear(cpl == 0 ? runner_page::kCode : runner_page::kUserCode) + offset_of(stub);
}
inline bool is_in_user_code(std::uint64_t linear) {
  return linear - runner_linear(runner_page::kUserCode) < kvm::kPage;
}

// The entry of a root, where the pages begin at that physical address.
constexpr std::uint64_t runner_root_entry(std::uint64_t first_page) {
  return (first_page + runner_page::kPdpt * kvm::kPage) | (kvm::kTableBits & ~pte::kD);
}

// Fills the zeroed page number `page`; `first_page` is where the guest has page 0.
void build_runner_page(unsigned page, std::uint64_t first_page, std::uint64_t* words);

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_RUNNER_PAGES_H_
