#include "harness/fuzzing/config.h"

#include <algorithm>

namespace twinwalk::fuzz {
namespace {

// 64-bit guests with 4-level paging over shadow tables. Guests larger than 64 MiB reach nothing
// more, and a processor in 64-bit mode has PAE.
void constrain_shadow_64(Machine& m) {
  m.core = Dimension::kShadow;
  m.nested = Nesting::kNone;
  m.features = (m.features | feature::kPae | feature::kPse) & ~feature::kLa57;
  m.mode = Mode::k4Level;
  m.host_levels = 3;
  m.memory_mib = std::min<std::uint32_t>(m.memory_mib, 64);
}

constexpr Config kConfigs[] = {
    {"all", "Every configuration that exists.", constrain_shadow_64},
    {"shadow-64", "64-bit guests, 4-level paging, shadow tables.", constrain_shadow_64},
};

}  // namespace

std::span<const Config> configs() { return kConfigs; }

const Config* find_config(std::string_view name) {
  for (const Config& c : kConfigs) {
    if (c.name == name) return &c;
  }
  return nullptr;
}

std::string config_names() {
  std::string out;
  for (const Config& c : kConfigs) {
    if (!out.empty()) out += ", ";
    out += c.name;
  }
  return out;
}

}  // namespace twinwalk::fuzz
