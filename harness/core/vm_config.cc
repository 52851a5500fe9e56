#include "harness/core/vm_config.h"

namespace twinwalk {

mmu::VmConfig config_of(const Machine& m) {
  mmu::VmConfig config;
  mmu::Capabilities& caps = config.caps;
  caps.vendor = m.vendor == Vendor::kAmd ? mmu::Vendor::kAmd : mmu::Vendor::kIntel;
  caps.maxphyaddr = m.maxphyaddr;
  caps.host_maxphyaddr = m.host_maxphyaddr;
  caps.nx = m.has(feature::kNx);
  caps.gbpages = m.has(feature::k1G);
  caps.pge = m.has(feature::kPge);
  caps.pcid = m.has(feature::kPcid);
  caps.invpcid = m.has(feature::kInvpcid);
  caps.smep = m.has(feature::kSmep);
  caps.smap = m.has(feature::kSmap);
  caps.pku = m.has(feature::kPku);
  caps.la57 = m.has(feature::kLa57);
  caps.pse = m.has(feature::kPse);
  caps.pse36 = m.has(feature::kPse36);
  caps.pae = m.has(feature::kPae);
  caps.svm = m.has(feature::kSvm);
  const auto on = [&m](std::uint32_t option) { return (m.options & option) != 0; };
  mmu::Options& options = config.options;
  options.prefetch = !on(option::kNoPrefetch);
  options.unsync = !on(option::kNoUnsync);
  options.large_pages = !on(option::kNoLargePages);
  options.eager_sync = on(option::kEagerSync);
  options.extra_flush = on(option::kExtraFlush);
  options.extra_zap = on(option::kExtraZap);
  config.vcpus = m.vcpus;
  config.host_levels = m.host_levels;
  if (m.quota != 0) config.quota = m.quota;
  return config;
}

}  // namespace twinwalk
