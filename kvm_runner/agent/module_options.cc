#include "kvm_runner/agent/module_options.h"

#include <fstream>

#include "harness/trace/machine.h"

namespace twinwalk::agent {
namespace {

struct Parameter {
  std::uint32_t option;
  const char *file, *on, *off;
};
constexpr Parameter kParameters[] = {
    {option::kEagerSplit, "/sys/module/kvm/parameters/eager_page_split", "Y", "N"},
    {option::kNxHuge, "/sys/module/kvm/parameters/nx_huge_pages", "force", "off"},
};

}  // namespace

void ModuleOptions::set(std::uint32_t options) {
  for (const Parameter& p : kParameters) {
    const bool on = (options & p.option) != 0;
    if (known_ && on == ((now_ & p.option) != 0)) continue;
    std::ofstream(p.file) << (on ? p.on : p.off);
  }
  now_ = options;
  known_ = true;
}

}  // namespace twinwalk::agent
