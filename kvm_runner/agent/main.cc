// The far end in an emulated host: runs programs on that kernel's /dev/kvm.
//
//   as process 1   the whole user space of the host: mounts, loads modules, serves the port that
//   the
//                  kernel command line names (twinwalk.port=/dev/ttyS1), then switches the host off
//   otherwise      serves standard input and output: `twinwalk-agent`

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include "kvm_runner/agent/kernel_log.h"
#include "kvm_runner/agent/kernel_module.h"
#include "kvm_runner/agent/mmu_stats.h"
#include "kvm_runner/agent/mmu_watch.h"
#include "kvm_runner/agent/module_options.h"
#include "kvm_runner/remote/answer.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::agent {
namespace {

// A subject whose host's kernel is watched while it runs.
class WatchedSubject final : public Subject {
 public:
  // `options`: nullptr where the kernel is not ours to change.
  WatchedSubject(std::unique_ptr<VmSubject> subject, ModuleOptions* options)
      : subject_(std::move(subject)), options_(options) {}
  const SubjectInfo& info() const override { return subject_->info(); }
  void run(const Program& program, OutcomeStream& out) override {
    if (options_ != nullptr) options_->set(program.machine.options);
    subject_->run(program, out);
    const std::string complaint = log_.take_complaint();
    if (complaint.empty() || out.steps.empty()) return;
    out.steps.back().complaint = Complaint::kTrap;
    out.complaint_text = complaint;
  }
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    return subject_->read_image(gpa, word);
  }
  VmSubject& inner() { return *subject_; }

 private:
  std::unique_ptr<VmSubject> subject_;
  ModuleOptions* options_;
  KernelLog log_;
};

class LinuxHost final : public remote::FarEnd {
 public:
  explicit LinuxHost(bool alone) : alone_(alone) {}
  Subject* subject() override {
    if (subject_ == nullptr) open();
    return subject_.get();
  }

  //   kvm NAME [PARAMETER...]   loads that module of KVM in place of the one that is there
  //   drive alone|batched       how the guest's steps are driven; without it the faster way
  //   describe
  //   watch                     from now on says what programs reach in KVM's MMU
  //   vms kept|fresh            whether programs may have VMs of former ones
  bool carry_out(const std::string& command) override {
    std::istringstream words(command);
    std::string verb, name, parameters;
    words >> verb >> name;
    std::getline(words >> std::ws, parameters);
    if (verb == "describe") return true;
    if (verb == "watch") return watch();
    if (verb == "drive") return drive(name);
    if (verb == "vms") {
      if (subject() != nullptr) subject_->inner().keep_vms(name == "kept");
      return true;
    }
    if (verb != "kvm") return false;
    subject_.reset();
    why_.clear();
    for (const char* other : {"kvm-amd", "kvm-intel"}) {
      if (!unload_module(other, why_)) return true;
    }
    load_module(name, parameters, why_);
    return true;
  }

  void about_to_run() override { watch_.begin(); }
  std::string seen() override { return watch_.take_news(); }

  std::string describe() override {
    if (subject() == nullptr) return "no KVM: " + why_;
    const SubjectInfo& info = subject_->info();
    return remote::describe(info);
  }

 private:
  bool watch() {
    watched_ = true;
    if (subject() != nullptr) subject_->inner().set_watcher(&stats_);
    std::string why;
    if (watch_.open(why)) return true;
    std::fprintf(stderr, "twinwalk: %s\n", why.c_str());
    return true;  // programs run all the same; that nothing is seen tells
  }

  bool drive(const std::string& way) {
    if (way != "alone" && way != "batched") return false;
    driving_ = way == "alone" ? Driving::kAlone : Driving::kBatched;
    subject_.reset();
    return true;
  }

  void open() {
    std::string why;
    auto subject = make_kvm_subject(why, driving_);
    if (subject != nullptr) {
      if (watched_) subject->set_watcher(&stats_);
      subject_ = std::make_unique<WatchedSubject>(std::move(subject), alone_ ? &options_ : nullptr);
    } else if (why_.empty()) {
      why_ = why;
    }
  }

  bool alone_;  // nobody else uses this kernel
  ModuleOptions options_;
  MmuWatch watch_;
  MmuStats stats_{watch_.map()};
  bool watched_ = false;
  std::unique_ptr<WatchedSubject> subject_;
  std::string why_;
  Driving driving_ = Driving::kFaster;
};

std::string word_of_command_line(const std::string& key) {
  std::ifstream in("/proc/cmdline");
  for (std::string word; in >> word;) {
    if (word.compare(0, key.size() + 1, key + "=") == 0) return word.substr(key.size() + 1);
  }
  return {};
}

// One of a virtio device comes some time after its driver.
int open_port(const std::string& path) {
  constexpr auto kPatience = std::chrono::milliseconds(10);
  int fd = -1;
  for (unsigned tries = 0; fd < 0 && tries < 500; ++tries) {
    if (tries != 0) std::this_thread::sleep_for(kPatience);
    fd = open(path.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT && errno != ENXIO) break;
  }
  termios raw{};
  if (fd >= 0 && tcgetattr(fd, &raw) == 0) {
    cfmakeraw(&raw);
    cfsetspeed(&raw, B115200);
    tcsetattr(fd, TCSANOW, &raw);
  }
  return fd;
}

void mount_all() {
  for (const char* folder : {"/proc", "/sys", "/dev"}) mkdir(folder, 0755);
  mount("proc", "/proc", "proc", 0, nullptr);
  mount("sysfs", "/sys", "sysfs", 0, nullptr);
  mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr);
}

// In the order in which they need each other; what KVM's own module needs besides is not in all
// kernels a module.
void load_common_modules() {
  for (const char* name : {"irqbypass", "rng-core", "ccp", "kvm"}) {
    std::string why;
    if (!load_module(name, "", why)) std::fprintf(stderr, "twinwalk: %s\n", why.c_str());
  }
}

void load_port_modules() {
  for (const char* name : {"virtio_ring", "virtio", "virtio_pci_legacy_dev",
                           "virtio_pci_modern_dev", "virtio_pci", "virtio_console"}) {
    std::string why;
    if (!load_module(name, "", why)) std::fprintf(stderr, "twinwalk: %s\n", why.c_str());
  }
}

// What Bochs takes for the power button; harmless elsewhere.
void press_power_button_of_bochs() {
  const int port = open("/dev/port", O_WRONLY | O_CLOEXEC);
  for (const char c : std::string("Shutdown")) {
    if (port >= 0 && pwrite(port, &c, 1, 0x8900) != 1) break;
  }
}

int serve_host() {
  mount_all();
  load_common_modules();
  LinuxHost host(true);
  const std::string port = word_of_command_line("twinwalk.port");
  if (port.find("/vport") != port.npos) load_port_modules();
  const int fd = open_port(port.empty() ? "/dev/ttyS1" : port);
  if (fd >= 0) {
    remote::LineChannel channel(fd, fd);
    remote::serve(host, channel);
    tcdrain(fd);
  } else {
    std::fprintf(stderr, "twinwalk: %s: %s\n", port.c_str(), std::strerror(errno));
  }
  press_power_button_of_bochs();
  reboot(RB_POWER_OFF);
  return 1;
}

int serve_pipes() {
  LinuxHost host(false);
  remote::LineChannel channel(STDIN_FILENO, STDOUT_FILENO);
  remote::serve(host, channel);
  return 0;
}

}  // namespace
}  // namespace twinwalk::agent

int main() {
  return getpid() == 1 ? twinwalk::agent::serve_host() : twinwalk::agent::serve_pipes();
}
