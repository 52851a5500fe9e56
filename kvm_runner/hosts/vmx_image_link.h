#ifndef TWINWALK_KVM_RUNNER_HOSTS_VMX_IMAGE_LINK_H_
#define TWINWALK_KVM_RUNNER_HOSTS_VMX_IMAGE_LINK_H_

// A link to the bare-metal image: programs go in as its boot module, many a boot, and what it says
// is read when it has switched itself off.

#include <functional>
#include <memory>
#include <string>

#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/remote/remote_subject.h"

namespace twinwalk::hosts {

// A machine that boots the image.
class ImageMachine {
 public:
  virtual ~ImageMachine() = default;
  virtual std::string name() const = 0;  // "bochs-vmx: Bochs 2.7, tigerlake"
  // Told from time to time all that was said so far; false: enough.
  using Watch = std::function<bool(const std::string&)>;
  // Boots the ISO; returns what was said by the end. False, and why, if the machine cannot be
  // started.
  virtual bool boot(const std::string& iso, const Watch& watch, std::string& said,
                    std::string& why) = 0;
};

// Waits until the emulator has ended, which it is made to do after ten minutes, or when `watch`,
// which is told what `output` holds, has enough.
void wait_for_image(Emulator& emulator, const std::string& output,
                    const ImageMachine::Watch& watch);

class VmxImageLink final : public remote::Link {
 public:
  explicit VmxImageLink(std::unique_ptr<ImageMachine> machine) : machine_(std::move(machine)) {}

  // Boots without any program, for the description. False, and why, if that says nothing.
  bool open(std::string& why);

  std::string describe() const override { return description_; }
  void run(std::span<const Program> programs, std::vector<remote::Answer>& answers) override;

 private:
  // One boot; fills in what was answered. The number of the first one that was not, which the
  // machine died of if it had been reached.
  std::size_t boot(std::span<const Program> programs, std::span<remote::Answer> answers,
                   std::string& why);

  std::unique_ptr<ImageMachine> machine_;
  std::string description_;
};

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_VMX_IMAGE_LINK_H_
