#ifndef TWINWALK_KVM_RUNNER_HOSTS_QEMU_MONITOR_H_
#define TWINWALK_KVM_RUNNER_HOSTS_QEMU_MONITOR_H_

// QEMU's monitor (QMP): as much of it as saving a machine's state needs.

#include <string>

#include "kvm_runner/remote/line_channel.h"

namespace twinwalk::hosts {

class QemuMonitor {
 public:
  // Owns neither; `fd` is the connected socket.
  explicit QemuMonitor(int fd) : channel_(fd, fd) {}

  // Waits until a machine that was started from a state runs: before, its devices may still lose
  // what they are sent.
  bool wait_until_running(std::string& why);

  // Stops the machine and writes its state to `path`, from which `-incoming` starts one like it.
  bool save_state(const std::string& path, std::string& why);

 private:
  // The answer's "return" as JSON text; false, and why, on an error.
  bool execute(const std::string& command, std::string& result, std::string& why);

  bool greet(std::string& why);
  // Executes `query` until its "status" is `wanted`; false on "failed", or after too long.
  bool await_status(const char* query, const char* wanted, std::string& why);

  remote::LineChannel channel_;
  bool greeted_ = false;
};

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_QEMU_MONITOR_H_
