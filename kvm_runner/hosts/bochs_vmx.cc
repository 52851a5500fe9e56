#include "kvm_runner/hosts/bochs_vmx.h"

#include "kvm_runner/hosts/bochs_machine.h"
#include "kvm_runner/hosts/host_files.h"
#include "kvm_runner/hosts/vmx_image_link.h"

namespace twinwalk::hosts {
namespace {

class BochsImage final : public ImageMachine {
 public:
  BochsImage(std::string model, std::string version)
      : model_(std::move(model)), version_(std::move(version)) {}

  std::string name() const override { return "bochs-vmx: " + version_ + " " + model_; }

  bool boot(const std::string& iso, const Watch& watch, std::string& said,
            std::string& why) override {
    BochsMachine machine;
    if (!machine.start({iso, model_, 512, false}, why)) return false;
    wait_for_image(machine.emulator(), machine.output(), watch);
    said = contents_of(machine.output());
    return true;
  }

 private:
  std::string model_, version_;
};

}  // namespace

std::unique_ptr<remote::Link> start_bochs_image(const std::string& model, std::string& why) {
  const std::string version = bochs_version();
  if (version.empty()) return why = "Bochs cannot be run", nullptr;
  auto link = std::make_unique<VmxImageLink>(std::make_unique<BochsImage>(model, version));
  if (!link->open(why)) return nullptr;
  return link;
}

std::unique_ptr<remote::Link> start_bochs_vmx(const std::string& parameters, AgentWishes wishes,
                                              std::string& why) {
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
  plan.wishes = wishes;
  plan.suffix = "; bochs-vmx: " + version;
  plan.patience = std::chrono::seconds(180);
  return open_live_link(std::move(plan), why);
}

}  // namespace twinwalk::hosts
