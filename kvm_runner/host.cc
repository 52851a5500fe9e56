#include "kvm_runner/host.h"

#include <cpuid.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "kvm_runner/kvm_abi.h"

namespace twinwalk::kvm {
namespace {

// Where CPUID says that a feature is there, SDM 2A "CPUID—CPU Identification".
enum class Output : std::uint8_t { kEbx, kEcx, kEdx };
struct FeatureBit {
  std::uint32_t feature, leaf;
  Output output;
  unsigned bit;
};
constexpr FeatureBit kFeatureBits[] = {
    {feature::kPse, 1, Output::kEdx, 3},          {feature::kPae, 1, Output::kEdx, 6},
    {feature::kPge, 1, Output::kEdx, 13},         {feature::kPse36, 1, Output::kEdx, 17},
    {feature::kPcid, 1, Output::kEcx, 17},        {feature::kSmep, 7, Output::kEbx, 7},
    {feature::kInvpcid, 7, Output::kEbx, 10},     {feature::kSmap, 7, Output::kEbx, 20},
    {feature::kPku, 7, Output::kEcx, 3},          {feature::kLa57, 7, Output::kEcx, 16},
    {feature::kNx, 0x80000001, Output::kEdx, 20}, {feature::k1G, 0x80000001, Output::kEdx, 26},
    {feature::kSvm, 0x80000001, Output::kEcx, 2},
};

std::uint32_t& output_of(kvm_cpuid_entry2& entry, Output output) {
  return output == Output::kEbx ? entry.ebx : output == Output::kEcx ? entry.ecx : entry.edx;
}

// Whether the processor is QEMU's translator, by what the leaf of hypervisors says.
bool is_translated() {
  unsigned eax = 0, name[3] = {};
  __cpuid(0x4000'0000, eax, name[0], name[1], name[2]);
  return std::memcmp(name, "TCGTCGTCGTCG", sizeof(name)) == 0;
}

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::string cpu_field(std::string_view name) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(':');
    if (line.compare(0, name.size(), name) != 0 || colon == std::string::npos) continue;
    return colon + 2 <= line.size() ? line.substr(colon + 2) : "";
  }
  return "unknown";
}

std::string describe_host(bool& shadows) {
  utsname release{};
  uname(&release);
  std::string text = std::string("linux ") + release.release;
  shadows = true;
  struct Parameter {
    const char *module, *name;
  };
  for (const char* module : {"kvm_intel", "kvm_amd", "kvm_pvm"}) {
    const std::string folder = std::string("/sys/module/") + module;
    if (access(folder.c_str(), F_OK) == 0) text += std::string(" ") + module;
  }
  for (const auto& [module, name] : {Parameter{"kvm_intel", "ept"}, Parameter{"kvm_intel", "pml"},
                                     Parameter{"kvm_intel", "nested"}, Parameter{"kvm_amd", "npt"},
                                     Parameter{"kvm_amd", "nested"}, Parameter{"kvm", "tdp_mmu"}}) {
    const std::string value =
        first_line(std::string("/sys/module/") + module + "/parameters/" + name);
    if (value.empty()) continue;
    text += std::string(" ") + name + "=" + value;
    const bool two_dimensional = std::strcmp(name, "ept") == 0 || std::strcmp(name, "npt") == 0;
    if (two_dimensional && (value == "Y" || value == "1")) shadows = false;
  }
  return text + "; " + cpu_field("model name") + "; microcode " + cpu_field("microcode");
}

}  // namespace

Host::~Host() {
  if (fd_ >= 0) close(fd_);
}

bool Host::open(std::string& why) {
  fd_ = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd_ < 0) {
    why = std::string("/dev/kvm: ") + std::strerror(errno);
    return false;
  }
  if (ioctl(fd_, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
    why = "/dev/kvm speaks another API version";
    return false;
  }
  const int wanted = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
  if ((ioctl(fd_, KVM_CHECK_EXTENSION, KVM_CAP_SYNC_REGS) & wanted) != wanted) {
    why = "/dev/kvm lacks KVM_CAP_SYNC_REGS";
    return false;
  }
  cpuid_.resize(256);
  const int count = twinwalk_kvm_supported_cpuid(fd_, cpuid_.data(), 256);
  if (count < 0) {
    why = std::string("KVM_GET_SUPPORTED_CPUID: ") + std::strerror(-count);
    return false;
  }
  cpuid_.resize(static_cast<std::size_t>(count));
  for (kvm_cpuid_entry2& entry : cpuid_) {
    if (entry.function == 0)
      vendor_ = entry.ebx == 0x68747541 ? Vendor::kAmd : Vendor::kIntel;  // "Auth"
    if (entry.function == 0x80000008) maxphyaddr_ = entry.eax & 0xff;
    if (entry.function == 0x8000000a) {  // APM 3 "CPUID Fn8000_000A: SVM Features"
      nested_paging_ = (entry.edx & 1) != 0;
      flush_by_asid_ = (entry.edx >> 6 & 1) != 0;
    }
    for (const FeatureBit& f : kFeatureBits) {
      if (entry.function == f.leaf && entry.index == 0 &&
          (output_of(entry, f.output) >> f.bit & 1) != 0) {
        features_ |= f.feature;
      }
    }
  }
  smaller_maxphyaddr_ = ioctl(fd_, KVM_CHECK_EXTENSION, KVM_CAP_SMALLER_MAXPHYADDR) > 0;
  emulates_supervisor_ = access("/sys/module/kvm_pvm", F_OK) == 0;
  // It walks its guests' tables with the host's own paging mode, whatever CPUID says.
  if (emulates_supervisor_) features_ &= ~feature::kLa57;
  translated_ = is_translated();
  // As the ledger knows that host, here too.
  version_ = describe_host(shadows_) + (translated_ ? "; qemu-svm" : "");
  return true;
}

std::vector<kvm_cpuid_entry2> Host::cpuid_for(const Machine& machine) const {
  std::vector<kvm_cpuid_entry2> entries = cpuid_;
  for (kvm_cpuid_entry2& entry : entries) {
    for (const FeatureBit& f : kFeatureBits) {
      if (entry.function != f.leaf || entry.index != 0 || machine.has(f.feature)) continue;
      output_of(entry, f.output) &= ~(1u << f.bit);
    }
    if (entry.function == 0x80000008) entry.eax = (entry.eax & ~0xffu) | machine.maxphyaddr;
  }
  return entries;
}

}  // namespace twinwalk::kvm
