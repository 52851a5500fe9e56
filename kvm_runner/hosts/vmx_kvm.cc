#include "kvm_runner/hosts/vmx_kvm.h"

#include <sys/utsname.h>

#include <utility>

#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/hosts/host_files.h"
#include "kvm_runner/hosts/nested_vmx.h"
#include "kvm_runner/hosts/vmx_image_link.h"

namespace twinwalk::hosts {
namespace {

constexpr const char* kQemu = "qemu-system-x86_64";

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// A machine with no more than the image needs: a CD to boot from, the port that it speaks to, and
// one that switches the machine off.
class QemuImage final : public ImageMachine {
 public:
  QemuImage(std::string name, std::string accelerator, std::string processor)
      : name_(std::move(name)),
        accelerator_(std::move(accelerator)),
        processor_(std::move(processor)) {}

  std::string name() const override { return name_; }

  bool boot(const std::string& iso, const Watch& watch, std::string& said,
            std::string& why) override {
    ScratchFolder scratch;
    const std::string output = scratch.file("said"), messages = scratch.file("messages");
    Emulator qemu;
    const std::vector<std::string> words = {kQemu,
                                            "-accel",
                                            accelerator_,
                                            "-cpu",
                                            processor_,
                                            "-smp",
                                            "1",
                                            "-m",
                                            "512M",
                                            "-nodefaults",
                                            "-display",
                                            "none",
                                            "-no-reboot",
                                            "-cdrom",
                                            iso,
                                            "-debugcon",
                                            "file:" + output,
                                            "-device",
                                            "isa-debug-exit,iobase=0xf4,iosize=4"};
    if (!qemu.start(words, messages, "", why)) return false;
    wait_for_image(qemu, output, watch);
    said = contents_of(output);
    if (said.empty()) why = name_ + ": " + tail_of(messages, 2);
    return !said.empty();
  }

 private:
  std::string name_, accelerator_, processor_;
};

std::unique_ptr<remote::Link> open_image(const std::string& host, const std::string& accelerator,
                                         const std::string& processor, std::string& why) {
  const std::string version = first_line(output_of(std::string(kQemu) + " --version"));
  if (version.empty()) return why = std::string(kQemu) + " cannot be run", nullptr;
  auto link = std::make_unique<VmxImageLink>(
      std::make_unique<QemuImage>(host + ": " + version, accelerator, processor));
  if (!link->open(why)) return nullptr;
  return link;
}

}  // namespace

std::unique_ptr<remote::Link> start_image_in_qemu(const std::string& accelerator,
                                                  const std::string& processor, std::string& why) {
  return open_image("QEMU's " + accelerator, accelerator, processor, why);
}

std::unique_ptr<remote::Link> start_vmx_kvm(std::string& why) {
  const NestedVmx found = look_at_nested_vmx();
  why = why_no_nested_vmx(found);
  if (!why.empty()) return nullptr;
  utsname release{};
  uname(&release);
  std::string host = std::string("vmx-kvm: linux ") + release.release;
  if (!found.module.empty()) host += " " + found.module;
  if (!found.nested.empty()) host += " nested=" + found.nested;
  return open_image(host, "kvm", "host,+vmx", why);
}

}  // namespace twinwalk::hosts
