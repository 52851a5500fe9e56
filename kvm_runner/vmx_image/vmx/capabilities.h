#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_CAPABILITIES_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_CAPABILITIES_H_

// What this processor has: VMX by its capability MSRs (SDM 3D "VMX Capability Reporting Facility"),
// paging by CPUID.

#include <cstdint>
#include <string>

namespace twinwalk::vmx {

// Bits of IA32_VMX_EPT_VPID_CAP.
namespace ept_vpid {
inline constexpr std::uint64_t kExecOnly = 1ull << 0, k4Levels = 1ull << 6, kWriteBack = 1ull << 14,
                               k2M = 1ull << 16, k1G = 1ull << 17, kInvept = 1ull << 20,
                               kAccessedDirty = 1ull << 21, kInveptSingle = 1ull << 25,
                               kInveptAll = 1ull << 26, kInvvpid = 1ull << 32,
                               kInvvpidAddress = 1ull << 40, kInvvpidSingle = 1ull << 41,
                               kInvvpidAll = 1ull << 42, kInvvpidButGlobal = 1ull << 43;
}

// Which bits of a control field may be 1, and which must be.
struct Allowed {
  std::uint32_t must = 0, may = 0;
  bool has(std::uint32_t bits) const { return (may & bits) == bits; }
  // Those of `wanted` that are there, and what must be.
  std::uint32_t adjust(std::uint32_t wanted) const { return (wanted & may) | must; }
};

struct Capabilities {
  std::uint64_t basic = 0, misc = 0, ept_vpid = 0;
  std::uint64_t cr0_must = 0, cr0_may = 0, cr4_must = 0, cr4_may = 0;
  Allowed pin, primary, secondary, exit, entry;
  std::uint32_t features = 0;  // feature::* of the processor
  unsigned maxphyaddr = 36;

  bool has_ept() const;
  bool has_vpid() const;
  bool has(std::uint64_t ept_vpid_bits) const {
    return (ept_vpid & ept_vpid_bits) == ept_vpid_bits;
  }
  // tdp::* that the second dimension of this processor can do.
  std::uint32_t tdp() const;
};

// False, and why for a person: this processor has no VMX, or its firmware forbids it.
bool read_capabilities(Capabilities& out, std::string& why);

// Model, stepping, microcode and the capability words, as key=value.
std::string describe(const Capabilities& capabilities);

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_CAPABILITIES_H_
