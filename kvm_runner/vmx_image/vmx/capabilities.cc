#include "kvm_runner/vmx_image/vmx/capabilities.h"

#include "harness/trace/machine.h"
#include "kvm_runner/vmx_image/runtime/hex.h"
#include "kvm_runner/vmx_image/vmx/fields.h"
#include "kvm_runner/vmx_image/vmx/instructions.h"

namespace twinwalk::vmx {
namespace {

// SDM 4 "Model-Specific Registers (MSRs)".
namespace msr {
constexpr std::uint32_t kFeatureControl = 0x3a, kMicrocode = 0x8b, kVmxBasic = 0x480, kPin = 0x481,
                        kPrimary = 0x482, kExit = 0x483, kEntry = 0x484, kMisc = 0x485,
                        kCr0Fixed0 = 0x486, kCr0Fixed1 = 0x487, kCr4Fixed0 = 0x488,
                        kCr4Fixed1 = 0x489, kSecondary = 0x48b, kEptVpid = 0x48c,
                        kTrueDistance = 0x48d - 0x481;
}
constexpr std::uint64_t kLocked = 1, kVmxOutsideSmx = 4;  // IA32_FEATURE_CONTROL
constexpr std::uint64_t kHasTrueControls = 1ull << 55;    // IA32_VMX_BASIC

struct CpuidBit {
  std::uint32_t leaf;
  std::uint32_t CpuidResult::*word;
  unsigned bit;
  std::uint32_t feature;
};
constexpr CpuidBit kCpuidBits[] = {
    {1, &CpuidResult::edx, 3, feature::kPse},
    {1, &CpuidResult::edx, 6, feature::kPae},
    {1, &CpuidResult::edx, 13, feature::kPge},
    {1, &CpuidResult::edx, 17, feature::kPse36},
    {1, &CpuidResult::ecx, 17, feature::kPcid},
    {7, &CpuidResult::ebx, 7, feature::kSmep},
    {7, &CpuidResult::ebx, 10, feature::kInvpcid},
    {7, &CpuidResult::ebx, 20, feature::kSmap},
    {7, &CpuidResult::ecx, 3, feature::kPku},
    {7, &CpuidResult::ecx, 16, feature::kLa57},
    {0x8000'0001, &CpuidResult::edx, 20, feature::kNx},
    {0x8000'0001, &CpuidResult::edx, 26, feature::k1G},
};

CpuidResult cpuid_or_zero(std::uint32_t leaf) {
  return cpuid(leaf & 0x8000'0000).eax >= leaf ? cpuid(leaf) : CpuidResult{};
}

std::uint32_t features_by_cpuid() {
  std::uint32_t features = 0;
  for (const CpuidBit& b : kCpuidBits) {
    const CpuidResult words = cpuid_or_zero(b.leaf);
    if ((words.*b.word >> b.bit & 1) != 0) features |= b.feature;
  }
  return features;
}

Allowed read_allowed(std::uint32_t number) {
  const std::uint64_t value = read_msr(number);
  return {static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32)};
}

std::string brand() {
  std::string text;
  for (std::uint32_t leaf = 0x8000'0002; leaf <= 0x8000'0004; ++leaf) {
    const CpuidResult words = cpuid_or_zero(leaf);
    for (const std::uint32_t word : {words.eax, words.ebx, words.ecx, words.edx}) {
      for (unsigned shift = 0; shift < 32; shift += 8) {
        const char c = static_cast<char>(word >> shift & 0xff);
        if (c > ' ' && c <= '~') text += c;
        if (c == ' ' && !text.empty() && text.back() != '_') text += '_';
      }
    }
  }
  return text;
}

}  // namespace

bool Capabilities::has_ept() const {
  return secondary.has(secondary::kEpt) &&
         has(ept_vpid::k4Levels | ept_vpid::kWriteBack | ept_vpid::kInvept) &&
         (primary.must & (primary::kCr3Load | primary::kCr3Store)) == 0;
}

bool Capabilities::has_vpid() const {
  return secondary.has(secondary::kVpid) && has(ept_vpid::kInvvpid);
}

std::uint32_t Capabilities::tdp() const {
  std::uint32_t can = 0;
  const auto note = [&can](bool there, std::uint32_t what) { can |= there ? what : 0; };
  note(has(ept_vpid::kAccessedDirty), tdp::kAd);
  note(has(ept_vpid::kExecOnly), tdp::kExecOnly);
  note(has(ept_vpid::k2M), tdp::k2M);
  note(has(ept_vpid::k1G), tdp::k1G);
  note(secondary.has(secondary::kMbec), tdp::kMbec);
  note(secondary.has(secondary::kPml), tdp::kPml);
  note(secondary.has(secondary::kUnrestricted), tdp::kUnrestricted);
  return can | tdp::kAdvanced | tdp::kNxe;
}

bool read_capabilities(Capabilities& out, std::string& why) {
  constexpr std::uint32_t kVmx = 1u << 5;
  if ((cpuid(1).ecx & kVmx) == 0) return why = "the processor has no VMX", false;
  const std::uint64_t control = read_msr(msr::kFeatureControl);
  if ((control & kLocked) == 0) {
    write_msr(msr::kFeatureControl, control | kLocked | kVmxOutsideSmx);
  } else if ((control & kVmxOutsideSmx) == 0) {
    return why = "the firmware has locked VMX off", false;
  }
  out.basic = read_msr(msr::kVmxBasic);
  const std::uint32_t distance = (out.basic & kHasTrueControls) != 0 ? msr::kTrueDistance : 0;
  out.pin = read_allowed(msr::kPin + distance);
  out.primary = read_allowed(msr::kPrimary + distance);
  out.exit = read_allowed(msr::kExit + distance);
  out.entry = read_allowed(msr::kEntry + distance);
  out.misc = read_msr(msr::kMisc);
  out.cr0_must = read_msr(msr::kCr0Fixed0);
  out.cr0_may = read_msr(msr::kCr0Fixed1);
  out.cr4_must = read_msr(msr::kCr4Fixed0);
  out.cr4_may = read_msr(msr::kCr4Fixed1);
  if (out.primary.has(primary::kSecondary)) {
    out.secondary = read_allowed(msr::kSecondary);
    if ((out.secondary.may & (secondary::kEpt | secondary::kVpid)) != 0)
      out.ept_vpid = read_msr(msr::kEptVpid);
  }
  out.features = features_by_cpuid();
  out.maxphyaddr = cpuid_or_zero(0x8000'0008).eax & 0xff;
  if (!out.exit.has(exit_control::kHost64 | exit_control::kLoadEfer) ||
      !out.entry.has(entry_control::kIa32e | entry_control::kLoadEfer))
    return why = "VM entry and exit cannot load EFER", false;
  return true;
}

// SDM 3A "Microcode Update Facilities": the revision is there after CPUID.
std::string describe(const Capabilities& c) {
  write_msr(msr::kMicrocode, 0);
  const std::uint32_t signature = cpuid(1).eax;
  const std::uint64_t microcode = read_msr(msr::kMicrocode) >> 32;
  std::string text = "cpu=" + brand() + " signature=" + hex(signature) +
                     " microcode=" + hex(microcode) + " maxphyaddr=" + hex(c.maxphyaddr);
  const auto words = [&text](const char* name, std::uint64_t value) {
    text += std::string(" ") + name + "=" + hex(value);
  };
  words("features", c.features);
  words("vmx-basic", c.basic);
  words("pin", c.pin.may);
  words("primary", c.primary.may);
  words("secondary", c.secondary.may);
  words("ept-vpid", c.ept_vpid);
  words("misc", c.misc);
  return text;
}

}  // namespace twinwalk::vmx
