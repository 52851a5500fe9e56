#ifndef MMU_CORE_RECLAIM_H_
#define MMU_CORE_RECLAIM_H_

// The bound on shadow pages (KVM: make_mmu_pages_available, kvm_mmu_zap_oldest_mmu_pages, the
// shrinker).

#include "mmu_core/paging_mode.h"
#include "mmu_core/state.h"

namespace mmu::reclaim {

// What one fault may build below its root: a page a level; and one load of an array.
inline constexpr u32 kMinFree = kMaxLevels - 1;
static_assert(kMinFree >= Root::kPages && kMinFree <= MemoryCaches::kPages);
// With less than min_quota(), one access that crosses a page might take away its own first half for
// ever: the roots of the other vCPUs, arrays at worst; the two ways from one tree (which are more
// than those from one array); and what every fault wants to find free.
inline constexpr u32 kTwoWays = 1 + 2 * (kMaxLevels - 1);
static_assert(kTwoWays >= Root::kPages + 2);
static_assert(min_quota(1) == kTwoWays + kMinFree);
static_assert(min_quota(kMaxVcpus) == min_quota(1) + (kMaxVcpus - 1) * Root::kPages);

// Zaps the oldest pages that are no roots, `want` of them or as many as there are. Does not commit.
u32 zap_oldest(VmState& vm, u32 want);
// Precondition: mmu lock held. After it the caller must look again whether its root is still good.
// False: the quota is too small for the roots in use.
bool make_pages_available(VmState& vm);

}  // namespace mmu::reclaim

#endif  // MMU_CORE_RECLAIM_H_
