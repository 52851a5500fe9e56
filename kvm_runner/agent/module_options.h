#ifndef TWINWALK_KVM_RUNNER_AGENT_MODULE_OPTIONS_H_
#define TWINWALK_KVM_RUNNER_AGENT_MODULE_OPTIONS_H_

// What of a machine's `options=` is a parameter of KVM's module: eager-split and nx-huge. No guest
// sees them; they decide by which way large pages come apart.

#include <cstdint>

namespace twinwalk::agent {

// For the host's whole kernel, so only in a host that is the agent's alone.
class ModuleOptions {
 public:
  // `options`: of a machine line. A parameter that this KVM lacks stays as it is.
  void set(std::uint32_t options);

 private:
  std::uint32_t now_ = 0;
  bool known_ = false;
};

}  // namespace twinwalk::agent

#endif  // TWINWALK_KVM_RUNNER_AGENT_MODULE_OPTIONS_H_
