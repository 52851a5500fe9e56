#ifndef TWINWALK_KVM_RUNNER_HOSTS_VMX_IMAGE_LINK_H_
#define TWINWALK_KVM_RUNNER_HOSTS_VMX_IMAGE_LINK_H_

// A link to the bare-metal image: programs go in as its boot module, many a boot, and what it says
// is read when it has switched itself off. A machine has one processor, so many programs are shared
// out to several machines at once: of all links together as many run as this machine has
// processors.

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/remote/remote_subject.h"

namespace twinwalk::hosts {

// A machine that boots the image, on several threads at once: each call of boot() has a machine of
// its own.
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
  // Some of the programs of a run.
  struct Part {
    std::span<const Program> programs;
    std::span<remote::Answer> answers;
    std::atomic<std::size_t> answered = 0;
  };
  void run_part(Part& part, const std::function<void()>& told);
  // One boot, with programs from `first` on; fills in what was answered, and `description` if it is
  // said. The number of the first one that was not, which the machine died of if it had been
  // reached: one that has said its description before can run programs.
  std::size_t boot(Part& part, std::size_t first, const std::function<void()>& told,
                   std::string& description, std::string& why);

  std::unique_ptr<ImageMachine> machine_;
  std::string description_;
};

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_VMX_IMAGE_LINK_H_
