#include "kvm_runner/vmx_image/vmx/root_mode.h"

#include <cstring>

#include "kvm_runner/vmx_image/vmx/instructions.h"

namespace twinwalk::vmx {
namespace {

constexpr std::uint64_t kCr4Vmxe = 1 << 13;

}  // namespace

bool enter_root_mode(const Capabilities& c, std::uint64_t region, std::string& why) {
  write_cr0((read_cr0() | c.cr0_must) & c.cr0_may);
  write_cr4((read_cr4() | kCr4Vmxe | c.cr4_must) & c.cr4_may);
  auto* const page = reinterpret_cast<unsigned char*>(region);
  std::memset(page, 0, 4096);
  const auto revision = static_cast<std::uint32_t>(c.basic);
  std::memcpy(page, &revision, sizeof revision);
  if (!vmxon(region)) return why = "VMXON fails", false;
  return true;
}

}  // namespace twinwalk::vmx
