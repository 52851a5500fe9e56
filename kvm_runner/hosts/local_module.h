#ifndef TWINWALK_KVM_RUNNER_HOSTS_LOCAL_MODULE_H_
#define TWINWALK_KVM_RUNNER_HOSTS_LOCAL_MODULE_H_

// This machine's own KVM with and without two-dimensional paging, by loading its module anew. Only
// ever on the word of the machine's owner (--reload-module).

#include <string>

namespace twinwalk::hosts {

class LocalModule {
 public:
  // Loads the module again as it was, if it was changed.
  ~LocalModule();
  LocalModule() = default;
  LocalModule(const LocalModule&) = delete;
  LocalModule& operator=(const LocalModule&) = delete;

  // False, and why, if there is no module here that has the parameter, or someone uses it.
  // `modules`: the kernel's folder of loaded modules.
  bool find(std::string& why, const std::string& modules = "/sys/module");
  // "ept" or "npt".
  const std::string& parameter() const { return parameter_; }
  // Unloads the module and loads it with that value. False, and why, if that cannot be done; then
  // it is loaded as it was.
  bool load_with(bool value, std::string& why);

 private:
  bool load(bool value, std::string& why);

  std::string name_, parameter_;
  bool before_ = false, changed_ = false;
};

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_LOCAL_MODULE_H_
