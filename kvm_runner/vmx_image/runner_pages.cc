#include "kvm_runner/vmx_image/runner_pages.h"

#include <cstring>

#include "kvm_runner/payload/payload32.h"

namespace twinwalk::vmx {
namespace {

using namespace runner_page;

constexpr std::uint64_t kLeaf = pte::kP | pte::kW | pte::kA | pte::kD;
constexpr std::uint64_t kTable = pte::kP | pte::kW | pte::kU | pte::kA;

constexpr bool is_user(unsigned page) { return page == kUserCode || page == kUserCode32; }

std::uint64_t gpa_of(unsigned page) { return kRunnerGpa + page * kvm::kPage; }

}  // namespace

std::uint64_t linear_of(kvm::Stub stub, std::uint8_t cpl, bool long_mode) {
  if (long_mode) return runner_linear(cpl == 0 ? kCode : kUserCode) + offset_of(stub);
  return runner_linear(cpl == 0 ? kCode32 : kUserCode32, false) + offset_of_32(stub);
}

bool is_in_user_code(std::uint64_t linear) {
  return linear - runner_linear(kUserCode) < kvm::kPage ||
         linear - runner_linear(kUserCode32, false) < kvm::kPage;
}

std::uint64_t runner_root_entry(std::uint64_t first_page) {
  return (first_page + kPdpt * kvm::kPage) | kTable;
}

RunnerEntry runner_entry_of(Mode mode, std::uint64_t cr3, std::uint64_t pdpte) {
  using Where = RunnerEntry::Where;
  switch (mode) {
    case Mode::kNone:
      return {};
    case Mode::k32Bit:
      return {Where::kMemory, (cr3 & 0xffff'f000) + (kRunnerGpa >> 22) * 4, 4,
              gpa_of(kPt32) | kTable};
    case Mode::kPae:
      static_assert(kRunnerGpa >> 30 == 3, "the last PDPTE");
      // SDM 3A §"PDPTE Registers": all but P, PWT and PCD are reserved.
      if ((pdpte & pte::kP) == 0) return {Where::kPdpte, 0, 8, gpa_of(kPdPae) | pte::kP};
      return {Where::kMemory, (pdpte & pte::kAddressMask) + (kRunnerGpa >> 21 & 511) * 8, 8,
              gpa_of(kPt) | kTable};
    case Mode::k4Level:
      return {Where::kMemory, (cr3 & pte::kAddressMask) + kvm::kRootEntryOffset, 8,
              gpa_of(kPdpt) | kTable};
    case Mode::k5Level:
      return {Where::kMemory, (cr3 & pte::kAddressMask) + kvm::kRootEntryOffset, 8,
              gpa_of(kPml4) | kTable};
  }
  return {};
}

void build_runner_page(unsigned page, std::uint64_t first_page, std::uint64_t* words) {
  const auto at = [&](unsigned n) { return first_page + n * kvm::kPage; };
  const auto copy = [words](std::span<const unsigned char> code) {
    std::memcpy(words, code.data(), code.size());
  };
  switch (page) {
    case kPml4:
      words[kvm::kRootIndex] = runner_root_entry(first_page);
      return;
    case kPdpt:
      words[kRunnerLinear >> 30 & 511] = at(kPd) | kTable;
      return;
    case kPd:
      words[kRunnerLinear >> 21 & 511] = at(kPt) | kTable;
      return;
    case kPdPae:
      words[kRunnerGpa >> 21 & 511] = at(kPt) | kTable;
      return;
    case kPt:  // its pages come first in their 2 MiB, by either address
      for (unsigned n = 0; n < kCount; ++n) words[n] = at(n) | kLeaf | (is_user(n) ? pte::kU : 0);
      return;
    case kPt32: {
      std::uint32_t entries[kCount];
      for (unsigned n = 0; n < kCount; ++n)
        entries[n] = static_cast<std::uint32_t>(at(n) | kLeaf | (is_user(n) ? pte::kU : 0));
      std::memcpy(words, entries, sizeof entries);
      return;
    }
    case kCode:
      return copy(kvm::payload_bytes(0));
    case kUserCode:
      return copy(kvm::payload_bytes(3));
    case kCode32:
      return copy(kvm::payload32_bytes(0));
    case kUserCode32:
      return copy(kvm::payload32_bytes(3));
    default:
      return;
  }
}

}  // namespace twinwalk::vmx
