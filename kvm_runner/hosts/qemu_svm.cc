#include "kvm_runner/hosts/qemu_svm.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "kvm_runner/hosts/emulator.h"
#include "kvm_runner/hosts/host_files.h"
#include "kvm_runner/hosts/qemu_monitor.h"

namespace twinwalk::hosts {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;

constexpr const char* kQemu = "qemu-system-x86_64";
constexpr seconds kBootTime{60};

struct BootFiles {
  std::string kernel, initrd;
};

class QemuMachine final : public LiveHost {
 public:
  ~QemuMachine() override {
    if (port_ >= 0) close(port_);
    if (monitor_ >= 0) close(monitor_);
  }
  int port() const override { return port_; }
  bool boots() const override { return boots_; }
  int monitor() const { return monitor_; }
  std::string last_words() const override {
    const std::string console = tail_of(console_, 6);
    return console.empty() ? tail_of(messages_, 3) : console;
  }

  // `state`: a file of save_state(); empty: power on.
  bool start(const BootFiles& files, const std::string& state, std::string& why) {
    boots_ = state.empty();
    const std::string port = scratch_.file("port"), monitor = scratch_.file("monitor");
    Listener port_listener, monitor_listener;
    if (!port_listener.open_local(port, why) || !monitor_listener.open_local(monitor, why))
      return false;
    std::vector<std::string> words = {kQemu,
                                      "-accel",
                                      "tcg",
                                      "-cpu",
                                      kProcessor,
                                      "-smp",
                                      "1",
                                      "-m",
                                      "1G",
                                      "-nodefaults",
                                      "-display",
                                      "none",
                                      "-no-reboot",
                                      "-serial",
                                      "file:" + console_,
                                      "-chardev",
                                      "socket,id=port,path=" + port,
                                      "-device",
                                      "virtio-serial-pci",
                                      "-device",
                                      "virtserialport,chardev=port",
                                      "-chardev",
                                      "socket,id=monitor,path=" + monitor,
                                      "-mon",
                                      "chardev=monitor,mode=control",
                                      "-kernel",
                                      files.kernel,
                                      "-initrd",
                                      files.initrd,
                                      "-append",
                                      kCommandLine};
    if (!state.empty()) {
      words.emplace_back("-incoming");
      words.push_back("exec:exec cat < '" + state + "'");
    }
    if (!emulator_.start(words, messages_, "", why)) return false;
    monitor_ = monitor_listener.accept(emulator_, seconds(10));
    port_ = port_listener.accept(emulator_, seconds(10));
    if (port_ >= 0 && monitor_ >= 0)
      return state.empty() || QemuMonitor(monitor_).wait_until_running(why);
    why = std::string(kQemu) + " does not start: " + tail_of(messages_, 3);
    return false;
  }

  static constexpr const char* kProcessor = "EPYC,+svm,+npt,+la57";
  static constexpr const char* kCommandLine =
      "console=ttyS0 quiet panic=-1 oops=panic nokaslr mitigations=off "
      "rcupdate.rcu_expedited=1 debugfs=off twinwalk.port=/dev/vport0p1";

 private:
  ScratchFolder scratch_;
  std::string console_ = scratch_.file("console"), messages_ = scratch_.file("messages");
  Emulator emulator_;
  int port_ = -1, monitor_ = -1;
  bool boots_ = true;
};

// Held by one at a time, whether threads or processes. Where a folder cannot be locked everyone
// holds it.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder)
      : fd_(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ >= 0) flock(fd_, LOCK_EX);
  }
  ~FolderLock() {
    if (fd_ >= 0) close(fd_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_;
};

// FNV-1a.
std::string hash_of(const std::string& text) {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

class QemuSvm {
 public:
  bool prepare(std::string& why) {
    version_ = output_of(std::string(kQemu) + " --version");
    version_ = version_.substr(0, version_.find('\n'));
    if (version_.empty()) return why = std::string(kQemu) + " cannot be run", false;
    files_.kernel = host_file("linux/vmlinuz", why);
    if (!files_.kernel.empty()) files_.initrd = host_file("linux/initrd", why);
    if (files_.initrd.empty()) return false;
    state_ = host_folder() + "/qemu-svm-" +
             hash_of(version_ + identity_of(files_.kernel) + identity_of(files_.initrd) +
                     QemuMachine::kProcessor + QemuMachine::kCommandLine) +
             ".state";
    return true;
  }

  bool is_saved() const {
    std::error_code error;
    return fs::exists(state_, error);
  }

  const std::string& version() const { return version_; }

  std::unique_ptr<LiveHost> start(std::string& why) const {
    if (!save_once(why)) return nullptr;
    auto machine = std::make_unique<QemuMachine>();
    // Where no state can be kept every start is a boot.
    if (machine->start(files_, is_saved() ? state_ : "", why)) return machine;
    std::error_code error;
    if (!fs::remove(state_, error)) return nullptr;
    // It may have been the state: one that was cut short, or of another QEMU under the same name.
    machine = std::make_unique<QemuMachine>();
    if (machine->start(files_, "", why)) return machine;
    return nullptr;
  }

 private:
  // Whoever comes first boots and saves; the others wait, and begin from that state.
  bool save_once(std::string& why) const {
    if (is_saved()) return true;
    const FolderLock lock(host_folder());
    return is_saved() || save(why);
  }

  // Boots until the agent answers, and keeps that state. True also if it cannot be kept.
  bool save(std::string& why) const {
    QemuMachine machine;
    if (!machine.start(files_, "", why)) return false;
    remote::LineChannel port(machine.port(), machine.port());
    std::string line;
    if (port.next(line, remote::LineChannel::Clock::now() + kBootTime) !=
        remote::LineChannel::Got::kLine) {
      why = "the emulated host does not come up: " + machine.last_words();
      return false;
    }
    const std::string unfinished = state_ + "." + std::to_string(getpid());
    QemuMonitor monitor(machine.monitor());
    std::string refusal;
    std::error_code error;
    if (monitor.save_state(unfinished, refusal)) {
      remove_others();
      fs::rename(unfinished, state_, error);
    }
    fs::remove(unfinished, error);
    return true;
  }

  // States of former kernels and agents.
  void remove_others() const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(host_folder(), error)) {
      const std::string name = entry.path().filename().string();
      if (name.compare(0, 9, "qemu-svm-") == 0 && entry.path().extension() == ".state")
        fs::remove(entry.path(), error);
    }
  }

  std::string version_, state_;
  BootFiles files_;
};

}  // namespace

bool qemu_svm_is_saved() {
  QemuSvm host;
  std::string why;
  return host.prepare(why) && host.is_saved();
}

std::unique_ptr<remote::Link> start_qemu_svm(const std::string& parameters, AgentWishes wishes,
                                             std::string& why) {
  QemuSvm host;
  if (!host.prepare(why)) return nullptr;
  LiveHostPlan plan;
  plan.start = [host](std::string& reason) { return host.start(reason); };
  plan.commands = {"kvm kvm-amd " + parameters};
  plan.wishes = wishes;
  plan.suffix = ": " + host.version();  // after the host's own "; qemu-svm"
  return open_live_link(std::move(plan), why);
}

}  // namespace twinwalk::hosts
