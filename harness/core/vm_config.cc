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
  options.nx_huge_pages = on(option::kNxHuge);
  options.eager_split = on(option::kEagerSplit);
  options.fast_fault = !on(option::kNoFastFault);
  options.manual_clear = on(option::kManualClear);
  options.initially_set = on(option::kInitiallySet);
  options.dirty_ring = on(option::kDirtyRing);
  config.translation = m.core == Dimension::kEpt   ? mmu::Translation::kEpt
                       : m.core == Dimension::kNpt ? mmu::Translation::kNpt
                                                   : mmu::Translation::kShadow;
  const auto can = [&m](std::uint32_t what) { return (m.tdp & what) != 0; };
  const bool npt = m.core == Dimension::kNpt;
  config.tdp.ad = can(tdp::kAd) || npt;
  config.tdp.exec_only = can(tdp::kExecOnly) && !npt;
  config.tdp.large_2m = can(tdp::k2M);
  config.tdp.large_1g = can(tdp::k1G);
  config.tdp.mbec = can(tdp::kMbec) && !npt;
  config.tdp.pml = can(tdp::kPml) && !npt;
  config.tdp.nx = can(tdp::kNxe);
  config.tdp.unrestricted = can(tdp::kUnrestricted);
  config.dirty_ring_limit = 3;  // a trace has no thousand pages to write to
  config.identity_map = mmu::Gpa{kIdentityMap};
  config.shared_bit = shared_bit(m);
  config.external_private = has_module(m);
  config.vcpus = m.vcpus;
  config.host_levels = m.host_levels;
  if (m.quota != 0) config.quota = m.quota;
  return config;
}

}  // namespace twinwalk
