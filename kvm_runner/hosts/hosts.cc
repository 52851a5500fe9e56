#include "kvm_runner/hosts/hosts.h"

#include "kvm_runner/hosts/bochs_vmx.h"
#include "kvm_runner/hosts/qemu_svm.h"

namespace twinwalk::hosts {
namespace {

constexpr HostVariant kVariants[] = {
    {"qemu-svm", "kvm", "npt=0"},
    {"qemu-svm", "kvm", "npt=1"},
    {"bochs-vmx", "kvm", "ept=1"},
    {"bochs-vmx", "kvm", "ept=0"},
};

}  // namespace

std::span<const HostVariant> host_variants() { return kVariants; }

bool is_slow(std::string_view host) { return host.substr(0, 9) == "bochs-vmx"; }

std::unique_ptr<remote::RemoteSubject> start_variant(const HostVariant& variant, std::string& why) {
  std::unique_ptr<remote::Link> link;
  if (variant.host == "qemu-svm") link = start_qemu_svm(std::string(variant.name), why);
  if (variant.host == "bochs-vmx") link = start_bochs_vmx(std::string(variant.name), why);
  if (link == nullptr) return nullptr;
  return std::make_unique<remote::RemoteSubject>(std::move(link), std::string(variant.subject));
}

}  // namespace twinwalk::hosts
