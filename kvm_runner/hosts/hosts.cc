#include "kvm_runner/hosts/hosts.h"

#include "kvm_runner/hosts/bochs_vmx.h"
#include "kvm_runner/hosts/qemu_svm.h"
#include "kvm_runner/hosts/vmx_kvm.h"

namespace twinwalk::hosts {
namespace {

// Bochs's processors with protection keys apply them to supervisor pages, so that what follows is
// another program's (corpus/known, bochs-*): these have none.
// They log addresses of bytes, not of pages (SDM 3C §"Page-Modification Logging"), at which KVM
// warns in its kernel's log: a complaint, whatever the program was. So KVM's own dirty log is kept
// by write protection there.
constexpr HostVariant kVariants[] = {
    {"qemu-svm", "kvm", "npt=0", "npt=0", {}},
    {"qemu-svm", "kvm", "npt=1", "npt=1", {}},
    {"bochs-vmx", "core-vmx", "shadow", "broadwell_ult", Dimension::kShadow},
    {"bochs-vmx", "core-vmx", "ept", "broadwell_ult", Dimension::kEpt},
    {"bochs-vmx", "core-vmx", "ept-haswell", "corei7_haswell_4770", Dimension::kEpt},
    {"bochs-vmx", "core-vmx", "ept-sandy-bridge", "corei7_sandy_bridge_2600k", Dimension::kEpt,
     true},
    {"bochs-vmx", "core-vmx", "ept-skylake", "corei7_skylake_x", Dimension::kEpt, true},
    {"bochs-vmx", "core-vmx", "ept-pku", "tigerlake", Dimension::kEpt, true},
    {"vmx-kvm", "core-vmx", "shadow", "", Dimension::kShadow},
    {"vmx-kvm", "core-vmx", "ept", "", Dimension::kEpt},
    {"bochs-vmx", "kvm", "ept=1", "ept=1 pml=0", {}},
    {"bochs-vmx", "kvm", "ept=0", "ept=0", {}},
    {"bochs-vmx", "kvm", "ept-pml", "ept=1 pml=1", {}, true},
};

}  // namespace

std::span<const HostVariant> host_variants() { return kVariants; }

bool is_slow(std::string_view host, std::string_view subject) {
  return subject == "kvm" && host.substr(0, 9) == "bochs-vmx";
}

// An agent in a Linux has its tracepoints.
bool can_watch(const HostVariant& variant) { return variant.subject == "kvm"; }

// KVM gives its guests nested paging if it has it itself.
bool can_nest(const HostVariant& variant) {
  return variant.host == "qemu-svm" && variant.name == "npt=1";
}

std::unique_ptr<remote::RemoteSubject> start_variant(const HostVariant& variant, std::string& why,
                                                     bool watched, Driving driving) {
  const std::string means(variant.means);
  const AgentWishes wishes{watched, driving};
  std::unique_ptr<remote::Link> link;
  if (variant.host == "vmx-kvm") {
    link = start_vmx_kvm(why);
  } else if (variant.subject == "core-vmx") {
    link = start_bochs_image(means, why);
  } else if (variant.host == "qemu-svm") {
    link = start_qemu_svm(means, wishes, why);
  } else {
    link = start_bochs_vmx(means, wishes, why);
  }
  if (link == nullptr) return nullptr;
  return std::make_unique<remote::RemoteSubject>(std::move(link), std::string(variant.subject),
                                                 variant.dimension);
}

}  // namespace twinwalk::hosts
