#ifndef MMU_CORE_COUNTERS_H_
#define MMU_CORE_COUNTERS_H_

// MMU states reached: one saturating byte for each (operation, level, role class).

#include "mmu_core/state.h"

namespace mmu {

enum class Event : u8 {
  kFetch,
  kLink,
  kLeaf,
  kLeafReadOnly,
  kLeafReplaced,
  kSync,
  kSyncChanged,
  kSyncDropped,
  kUnsync,
  kHashHit,
  kHashMiss,
  kHashSync,
  kZap,
  kZapRoot,
  kPtWrite,
  kPtWriteMisaligned,
  kPtWriteFlood,
  kPrefetch,
  kInvlpg,
  kInvlpgSync,
  kRootHit,
  kRootMiss,
  kInject,
  kEmulate,
  kMmioMake,
  kMmioHit,
  kMmioStale,
  kDirtyProtect,
  kNotifierZap,
  kAge,
  kReclaim,
  kSplit,
  kWriteProtect,
  kRetryStale,
  kRetryNotifier,
  kChildMismatch,
  kSpurious,
  kWpTrick,
  kUpperZapsUnsync,
  kUnprotect,
  kRootKept,
  kPdpteLoad,
  kPdpteRefused,
  kPdpteReread,
  kAsyncLater,
  kAsyncReady,
  kAsyncDropped,
  kCount
};
// For reports, in the order of Event.
inline constexpr const char* kEventNames[] = {"fetch",
                                              "link",
                                              "leaf",
                                              "leaf-read-only",
                                              "leaf-replaced",
                                              "sync",
                                              "sync-changed",
                                              "sync-dropped",
                                              "unsync",
                                              "hash-hit",
                                              "hash-miss",
                                              "hash-sync",
                                              "zap",
                                              "zap-root",
                                              "pt-write",
                                              "pt-write-misaligned",
                                              "pt-write-flood",
                                              "prefetch",
                                              "invlpg",
                                              "invlpg-sync",
                                              "root-hit",
                                              "root-miss",
                                              "inject",
                                              "emulate",
                                              "mmio-make",
                                              "mmio-hit",
                                              "mmio-stale",
                                              "dirty-protect",
                                              "notifier-zap",
                                              "age",
                                              "reclaim",
                                              "split",
                                              "write-protect",
                                              "retry-stale",
                                              "retry-notifier",
                                              "child-mismatch",
                                              "spurious",
                                              "wp-trick",
                                              "upper-zaps-unsync",
                                              "unprotect",
                                              "root-kept",
                                              "pdpte-load",
                                              "pdpte-refused",
                                              "pdpte-reread",
                                              "async-later",
                                              "async-ready",
                                              "async-dropped"};
static_assert(sizeof kEventNames / sizeof kEventNames[0] == static_cast<u32>(Event::kCount));
inline constexpr u32 kCounterLevels = kMaxLevels + 1;  // 0: no level applies
// Bit 0 direct, bit 1 WP = 0, bit 2 rights narrower than all; from bit 3 on the guest's Paging.
inline constexpr u32 kCounterPagings = static_cast<u32>(Paging::k5Level) + 1;
inline constexpr const char* kPagingNames[] = {"no paging", "32-bit", "PAE", "4-level", "5-level"};
static_assert(sizeof kPagingNames / sizeof kPagingNames[0] == kCounterPagings);
inline constexpr u32 kCounterRoleClasses = 8 * kCounterPagings;
static_assert(static_cast<u32>(Event::kCount) * kCounterLevels * kCounterRoleClasses <=
              kStateCounters);

constexpr u32 role_class(PageRole role) {
  return (role.direct() ? 1u : 0u) | (role.get<PageRole::Wp>() ? 0u : 2u) |
         (role.access() != acc::kAll ? 4u : 0u) |
         static_cast<u32>(role.get<PageRole::GuestPaging>()) << 3;
}
constexpr u32 counter_index(Event e, u32 level, u32 role_class) {
  return (static_cast<u32>(e) * kCounterLevels + level) * kCounterRoleClasses + role_class;
}

inline void count(VmState& vm, Event e, u32 level, PageRole role) {
  if (!vm.counters) return;
  u8& c = vm.counters[counter_index(e, level, role_class(role))];
  if (c != 255) ++c;
}
inline void count(VmState& vm, Event e, const ShadowPage& page) {
  count(vm, e, page.role.level(), page.role);
}

}  // namespace mmu

#endif  // MMU_CORE_COUNTERS_H_
