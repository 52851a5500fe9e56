#include "harness/fuzzing/config.h"

#include <algorithm>

#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

// Shadow paging without nesting. Guests larger than 64 MiB reach nothing more.
void constrain_shadow(Machine& m) {
  m.core = Dimension::kShadow;
  m.nested = Nesting::kNone;
  m.memory_mib = std::min<std::uint32_t>(m.memory_mib, 64);
  reconcile(m);
}

// Without PAE there is no way out to other modes than paging off and back.
void constrain_shadow_32(Machine& m) {
  m.mode = Mode::k32Bit;
  m.features &= ~(feature::kPae | feature::kLa57);
  constrain_shadow(m);
}

void constrain_shadow_pae(Machine& m) {
  m.mode = Mode::kPae;
  constrain_shadow(m);
}

void constrain_shadow_64(Machine& m) {
  m.features = (m.features | feature::kPse) & ~feature::kLa57;
  m.mode = Mode::k4Level;
  constrain_shadow(m);
}

void constrain_shadow_la57(Machine& m) {
  m.mode = Mode::k5Level;
  constrain_shadow(m);
}

constexpr Config kConfigs[] = {
    {"all", "Every configuration that exists.", constrain_shadow},
    {"shadow-32", "32-bit guests, 2-level paging, shadow tables.", constrain_shadow_32},
    {"shadow-pae", "32-bit guests, PAE paging, shadow tables.", constrain_shadow_pae},
    {"shadow-64", "64-bit guests, 4-level paging, shadow tables.", constrain_shadow_64},
    {"shadow-la57", "64-bit guests, 5-level paging, shadow tables.", constrain_shadow_la57},
    {"shadow-any", "Guests that start in any paging mode and change it, shadow tables.",
     constrain_shadow},
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
