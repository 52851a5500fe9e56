#ifndef MMU_CORE_TDP_COUNTERS_H_
#define MMU_CORE_TDP_COUNTERS_H_

// MMU states reached with two-dimensional paging: one saturating byte for each (event, level,
// class), behind those of shadow paging (counters.h).

#include "mmu_core/counters.h"

namespace mmu {

enum class TdpEvent : u8 {
  kLeaf,
  kLeafReadOnly,
  kLink,
  kSplit,
  kLargeForTable,
  kMmioMake,
  kMmioHit,
  kMmioStale,
  kSpurious,
  kLostRace,
  kFrozenSeen,
  kRetryStale,
  kRetryNotifier,
  kRootMade,
  kRootShared,
  kRootInvalid,
  kRootGone,
  kTakeDown,
  kZapLeaf,
  kYield,
  kDirtyProtect,
  kAge,
  kMemoryFault,
  kFastWrite,
  kFastAccess,
  kPmlEntry,
  kDirtyClear,
  kPrefault,
  kCollapse,
  kNxSplit,
  kNxRecover,
  kAttributes,
  kTrackProtect,
  kTrackedWrite,
  kAsyncLater,
  kAsyncReady,
  kExternalSet,
  kExternalBusy,
  kExternalGone,
  kCount
};
// For reports, in the order of TdpEvent.
inline constexpr const char* kTdpEventNames[] = {"leaf",
                                                 "leaf-read-only",
                                                 "link",
                                                 "split",
                                                 "large-for-table",
                                                 "mmio-make",
                                                 "mmio-hit",
                                                 "mmio-stale",
                                                 "spurious",
                                                 "lost-race",
                                                 "frozen-seen",
                                                 "retry-stale",
                                                 "retry-notifier",
                                                 "root-made",
                                                 "root-shared",
                                                 "root-invalid",
                                                 "root-gone",
                                                 "take-down",
                                                 "zap-leaf",
                                                 "yield",
                                                 "dirty-protect",
                                                 "age",
                                                 "memory-fault",
                                                 "fast-write",
                                                 "fast-access",
                                                 "pml-entry",
                                                 "dirty-clear",
                                                 "prefault",
                                                 "collapse",
                                                 "nx-split",
                                                 "nx-recover",
                                                 "attributes",
                                                 "track-protect",
                                                 "tracked-write",
                                                 "async-later",
                                                 "async-ready",
                                                 "external-set",
                                                 "external-busy",
                                                 "external-gone"};
static_assert(sizeof kTdpEventNames / sizeof kTdpEventNames[0] ==
              static_cast<u32>(TdpEvent::kCount));

inline constexpr const char* kTdpClassNames[] = {"EPT", "EPT without A/D", "NPT"};
inline constexpr u32 kTdpClasses = 3;
inline constexpr u32 kTdpCountersFrom =
    static_cast<u32>(Event::kCount) * kCounterLevels * kCounterRoleClasses;
constexpr u32 tdp_counter_index(TdpEvent e, u32 level, u32 tdp_class) {
  return kTdpCountersFrom + (static_cast<u32>(e) * kCounterLevels + level) * kTdpClasses +
         tdp_class;
}
static_assert(tdp_counter_index(TdpEvent::kCount, 0, 0) <= kStateCounters);

// Level 0 where none applies.
inline void count(VmState& vm, TdpEvent e, u32 level = 0) {
  if (!vm.counters) return;
  const tdp::Format& f = vm.tdp.format;
  u8& c = vm.counters[tdp_counter_index(e, level, !f.ept ? 2 : f.ad ? 0 : 1)];
  if (c != 255) ++c;
}

}  // namespace mmu

#endif  // MMU_CORE_TDP_COUNTERS_H_
