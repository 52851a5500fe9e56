#include "kvm_runner/agent/kernel_module.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace twinwalk::agent {

bool load_module(const std::string& name, const std::string& parameters, std::string& why) {
  const std::string path = "/modules/" + name + ".ko";
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return true;  // built in: what needs it will tell if it is not
  const bool loaded =
      fd >= 0 && (syscall(SYS_finit_module, fd, parameters.c_str(), 0) == 0 || errno == EEXIST);
  if (!loaded) why = path + ": " + std::strerror(errno);
  if (fd >= 0) close(fd);
  return loaded;
}

bool unload_module(const std::string& name, std::string& why) {
  std::string in_kernel = name;
  std::replace(in_kernel.begin(), in_kernel.end(), '-', '_');
  if (syscall(SYS_delete_module, in_kernel.c_str(), O_NONBLOCK) == 0 || errno == ENOENT)
    return true;
  why = name + ": " + std::strerror(errno);
  return false;
}

}  // namespace twinwalk::agent
