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

void constrain_smp(Machine& m) {
  m.vcpus = static_cast<std::uint8_t>(std::max<unsigned>(m.vcpus, 2));
  constrain_shadow(m);
}

// Two dimensions: guests in any mode, changing it, on the core's EPT or NPT.
void constrain_tdp(Machine& m, Dimension core, Vendor vendor) {
  constrain_shadow(m);
  m.core = core;
  m.vendor = vendor;
}

void constrain_ept(Machine& m) { constrain_tdp(m, Dimension::kEpt, Vendor::kIntel); }

void constrain_ept_noad(Machine& m) {
  constrain_ept(m);
  m.tdp &= ~(tdp::kAd | tdp::kPml);
}

void constrain_npt(Machine& m) { constrain_tdp(m, Dimension::kNpt, Vendor::kAmd); }

// The trace is a hypervisor. Its tables have four levels or five: nested ones of PAE paging are
// walked by few who run it (kvm_runner/nested).
void constrain_nested_npt(Machine& m) {
  m.core = Dimension::kBare;
  m.nested = Nesting::kNpt;
  m.vendor = Vendor::kAmd;
  m.features |= feature::kNx | feature::kPae;
  m.memory_mib = std::min<std::uint32_t>(m.memory_mib, 64);
  m.host_levels = static_cast<std::uint8_t>(std::max<unsigned>(m.host_levels, 4));
  reconcile(m);
}

void constrain_any(Machine& m) {
  switch (m.core) {
    case Dimension::kEpt:
      return constrain_ept(m);
    case Dimension::kNpt:
      return constrain_npt(m);
    default:
      return constrain_shadow(m);
  }
}

void constrain_tdp_smp(Machine& m) {
  if (m.core == Dimension::kNpt) {
    constrain_npt(m);
  } else {
    constrain_ept(m);
  }
  m.vcpus = static_cast<std::uint8_t>(std::max<unsigned>(m.vcpus, 2));
}

const BitName* find_option(std::string_view name) {
  const auto* const found = std::find_if(std::begin(option::kNames), std::end(option::kNames),
                                         [&](const BitName& o) { return o.name == name; });
  return found == std::end(option::kNames) ? nullptr : found;
}

}  // namespace

void Config::constrain(Machine& machine) const {
  mode(machine);
  if (options) machine.options = *options;
}

void Config::constrain(Trace& trace) const {
  constrain(trace.machine);
  for (Op& op : trace.ops) {
    op.vcpu = static_cast<std::uint8_t>(op.vcpu % trace.machine.vcpus);
    if (!interleaves || &op == trace.ops.data()) op.point = Point::kNone;
  }
}

std::span<const Config> configs() {
  static const Config kConfigs[] = {
      {"all", "Every configuration that exists.", constrain_any, true},
      {"shadow-32", "32-bit guests, 2-level paging, shadow tables.", constrain_shadow_32},
      {"shadow-pae", "32-bit guests, PAE paging, shadow tables.", constrain_shadow_pae},
      {"shadow-64", "64-bit guests, 4-level paging, shadow tables.", constrain_shadow_64},
      {"shadow-la57", "64-bit guests, 5-level paging, shadow tables.", constrain_shadow_la57},
      {"shadow-any", "Guests that start in any paging mode and change it, shadow tables.",
       constrain_shadow},
      {"smp", "Two to four vCPUs that are inside the core at once, shadow tables.", constrain_smp,
       true},
      {"ept", "Guests in any paging mode, Intel's extended page tables.", constrain_ept},
      {"ept-noad", "The same on hardware without accessed and dirty flags for EPT.",
       constrain_ept_noad},
      {"npt", "Guests in any paging mode, AMD's nested page tables.", constrain_npt},
      {"nested-npt", "Hypervisors with guests on AMD's nested page tables; on a host of KVM alone.",
       constrain_nested_npt, false, true},
      {"tdp-smp", "Two to four vCPUs that are inside the core at once, EPT or NPT.",
       constrain_tdp_smp, true},
  };
  return kConfigs;
}

std::optional<Config> find_config(std::string_view name) {
  const std::size_t end = std::min(name.find('+'), name.size());
  const auto base = std::find_if(configs().begin(), configs().end(),
                                 [&](const Config& c) { return c.name == name.substr(0, end); });
  if (base == configs().end()) return std::nullopt;
  Config config = *base;
  config.name = name;
  for (std::size_t at = end; at < name.size();) {
    const std::size_t next = std::min(name.find('+', at + 1), name.size());
    const BitName* const o = find_option(name.substr(at + 1, next - at - 1));
    if (o == nullptr) return std::nullopt;
    config.options = config.options.value_or(0) | static_cast<std::uint32_t>(o->mask);
    at = next;
  }
  return config;
}

std::string config_names() {
  std::string out;
  for (const Config& c : configs()) {
    if (!out.empty()) out += ", ";
    out += c.name;
  }
  out += "; with options of the core:";
  for (const BitName& o : option::kNames) out.append(" +").append(o.name);
  return out;
}

}  // namespace twinwalk::fuzz
