#include "kvm_runner/hosts/needs.h"

#include <sstream>

namespace twinwalk::hosts {

std::vector<HostNeed> needs_of(std::string_view host) {
  std::vector<HostNeed> needs;
  const std::string wanted = "," + std::string(host) + ",";
  std::istringstream lines{std::string(needs_text())};
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    HostNeed need;
    std::string hosts;
    words >> need.what >> need.package >> hosts;
    if (("," + hosts + ",").find(wanted) != std::string::npos) needs.push_back(std::move(need));
  }
  return needs;
}

std::vector<std::string> missing_packages(
    std::string_view host, const std::function<bool(const std::string& what)>& is_there) {
  std::vector<std::string> packages;
  for (const HostNeed& need : needs_of(host)) {
    if (!is_there(need.what)) packages.push_back(need.package);
  }
  return packages;
}

}  // namespace twinwalk::hosts
