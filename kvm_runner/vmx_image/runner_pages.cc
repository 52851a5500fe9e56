#include "kvm_runner/vmx_image/runner_pages.h"

#include <cstring>

namespace twinwalk::vmx {

using namespace runner_page;

void build_runner_page(unsigned page, std::uint64_t first_page, std::uint64_t* words) {
  const auto at = [&](unsigned n) { return first_page + n * kvm::kPage; };
  const std::uint64_t leaf = pte::kP | pte::kW | pte::kA | pte::kD;
  switch (page) {
    case kPml4:
      words[kvm::kRootIndex] = runner_root_entry(first_page);
      return;
    case kPdpt:
      words[kRunnerLinear >> 30 & 511] = at(kPd) | kvm::kTableBits;
      return;
    case kPd:
      words[kRunnerLinear >> 21 & 511] = at(kPt) | kvm::kTableBits;
      return;
    case kPt:
      for (unsigned n = 0; n < kCount; ++n)
        words[n] = at(n) | leaf | (n == kUserCode ? pte::kU : 0);
      return;
    case kCode:
    case kUserCode: {
      const auto code = kvm::payload_bytes(page == kCode ? 0 : 3);
      std::memcpy(words, code.data(), code.size());
      return;
    }
    default:
      return;
  }
}

}  // namespace twinwalk::vmx
