#include "kvm_runner/hosts/nested_vmx.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <vector>

#include "kvm_runner/kvm_abi.h"

namespace twinwalk::hosts {
namespace {

constexpr std::uint32_t kVmx = 1u << 5;  // CPUID leaf 1, ECX. SDM 2A "CPUID—CPU Identification"

void ask_device(const std::string& device, NestedVmx& found) {
  const int fd = open(device.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    found.device_error = device + ": " + std::strerror(errno);
    return;
  }
  std::vector<kvm_cpuid_entry2> entries(256);
  const int count =
      twinwalk_kvm_supported_cpuid(fd, entries.data(), static_cast<unsigned>(entries.size()));
  close(fd);
  if (count < 0)
    found.device_error = device + ": KVM_GET_SUPPORTED_CPUID: " + std::strerror(-count);
  for (int i = 0; i < count; ++i) {
    const kvm_cpuid_entry2& entry = entries[static_cast<std::size_t>(i)];
    found.in_cpuid |= entry.function == 1 && (entry.ecx & kVmx) != 0;
  }
}

}  // namespace

NestedVmx look_at_nested_vmx(const std::string& device, const std::string& modules) {
  NestedVmx found;
  ask_device(device, found);
  std::error_code error;
  for (const char* name : {"kvm_intel", "kvm_amd", "kvm_pvm"}) {
    const std::string folder = modules + "/" + name;
    if (!found.module.empty() || !std::filesystem::exists(folder, error)) continue;
    found.module = name;
    std::ifstream(folder + "/parameters/nested") >> found.nested;
  }
  return found;
}

std::string why_no_nested_vmx(const NestedVmx& found) {
  if (!found.device_error.empty()) return found.device_error;
  if (found.in_cpuid) return {};
  if (found.module.empty()) return "kvm_intel is not loaded, and KVM offers its guests no VMX";
  if (found.module != "kvm_intel")
    return "this machine's KVM is " + found.module + ", which offers its guests no VMX";
  if (found.nested == "N" || found.nested == "0")
    return "kvm_intel is loaded with nested=" + found.nested +
           "; with nested=1 its guests have VMX";
  return "kvm_intel offers its guests no VMX (KVM_GET_SUPPORTED_CPUID)";
}

}  // namespace twinwalk::hosts
