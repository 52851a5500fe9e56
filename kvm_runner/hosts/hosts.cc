#include "kvm_runner/hosts/hosts.h"

#include "kvm_runner/hosts/bochs_vmx.h"
#include "kvm_runner/hosts/qemu_svm.h"

namespace twinwalk::hosts {
namespace {

constexpr HostVariant kVariants[] = {
    {"qemu-svm", "kvm", "npt=0", {}},
    {"qemu-svm", "kvm", "npt=1", {}},
    {"bochs-vmx", "core-vmx", "shadow", Dimension::kShadow},
    {"bochs-vmx", "core-vmx", "ept", Dimension::kEpt},
    {"bochs-vmx", "kvm", "ept=1", {}},
    {"bochs-vmx", "kvm", "ept=0", {}},
};

}  // namespace

std::span<const HostVariant> host_variants() { return kVariants; }

bool is_slow(std::string_view host, std::string_view subject) {
  return subject == "kvm" && host.substr(0, 9) == "bochs-vmx";
}

// An agent in a Linux has its tracepoints.
bool can_watch(const HostVariant& variant) { return variant.subject == "kvm"; }

std::unique_ptr<remote::RemoteSubject> start_variant(const HostVariant& variant, std::string& why,
                                                     bool watched) {
  const std::string name(variant.name);
  std::unique_ptr<remote::Link> link;
  if (variant.subject == "core-vmx") {
    link = start_bochs_image("tigerlake", why);
  } else if (variant.host == "qemu-svm") {
    link = start_qemu_svm(name, watched, why);
  } else {
    link = start_bochs_vmx(name, watched, why);
  }
  if (link == nullptr) return nullptr;
  return std::make_unique<remote::RemoteSubject>(std::move(link), std::string(variant.subject),
                                                 variant.dimension);
}

}  // namespace twinwalk::hosts
