#ifndef TWINWALK_KVM_RUNNER_AGENT_KERNEL_LOG_H_
#define TWINWALK_KVM_RUNNER_AGENT_KERNEL_LOG_H_

// What the kernel says of itself: a warning or an oops in KVM is a finding, whatever its guest saw.

#include <string>

namespace twinwalk::agent {

class KernelLog {
 public:
  KernelLog();
  ~KernelLog();
  KernelLog(const KernelLog&) = delete;
  KernelLog& operator=(const KernelLog&) = delete;

  // The first complaint since the last call, empty if there was none.
  std::string take_complaint();

 private:
  int fd_ = -1;
};

}  // namespace twinwalk::agent

#endif  // TWINWALK_KVM_RUNNER_AGENT_KERNEL_LOG_H_
