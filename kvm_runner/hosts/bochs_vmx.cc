#include "kvm_runner/hosts/bochs_vmx.h"

#include "kvm_runner/hosts/bochs_machine.h"
#include "kvm_runner/hosts/host_files.h"

namespace twinwalk::hosts {

std::unique_ptr<remote::Link> start_bochs_vmx(const std::string& parameters, std::string& why) {
  constexpr const char* kModel = "corei7_skylake_x";
  const std::string iso = host_file("linux.iso", why);
  if (iso.empty()) return nullptr;
  const std::string version = bochs_version();
  if (version.empty()) return why = "Bochs cannot be run", nullptr;
  LiveHostPlan plan;
  plan.start = [iso](std::string& reason) -> std::unique_ptr<LiveHost> {
    auto machine = std::make_unique<BochsMachine>();
    if (!machine->start({iso, kModel, 512, true}, reason)) return nullptr;
    return machine;
  };
  plan.commands = {"kvm kvm-intel " + parameters};
  plan.suffix = "; bochs-vmx: " + version;
  plan.patience = std::chrono::seconds(180);
  auto link = std::make_unique<LiveLink>(std::move(plan));
  if (!link->open(why)) return nullptr;
  return link;
}

}  // namespace twinwalk::hosts
