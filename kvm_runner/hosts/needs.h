#ifndef TWINWALK_KVM_RUNNER_HOSTS_NEEDS_H_
#define TWINWALK_KVM_RUNNER_HOSTS_NEEDS_H_

// What a host needs of the distribution: the table in the file `needs`, which prepare.sh reads,
// too.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk::hosts {

struct HostNeed {
  std::string what;  // a program, or a file by its whole path
  std::string package;
};
// Empty if no host has that name.
std::vector<HostNeed> needs_of(std::string_view host);

// The packages to be installed. `is_there`: whether a HostNeed::what can be found.
std::vector<std::string> missing_packages(
    std::string_view host, const std::function<bool(const std::string& what)>& is_there);

// The table as it was when the program was built.
std::string_view needs_text();

}  // namespace twinwalk::hosts

#endif  // TWINWALK_KVM_RUNNER_HOSTS_NEEDS_H_
