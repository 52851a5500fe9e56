#ifndef MMU_CORE_RECLAIM_H_
#define MMU_CORE_RECLAIM_H_

// The bound on shadow pages (KVM: make_mmu_pages_available, kvm_mmu_zap_oldest_mmu_pages, the
// shrinker).

#include "mmu_core/paging_mode.h"
#include "mmu_core/state.h"

namespace mmu::reclaim {

// What one fault may build below its root: a page a level.
inline constexpr u32 kMinFree = kMaxLevels - 1;
// With less than kMinQuota, one access that crosses a page might take away its own first half for
// ever: the roots of the other vCPUs, the two ways from one root, and what every fault wants to
// find free.
static_assert(kMinQuota == (kMaxVcpus - 1) + (1 + 2 * (kMaxLevels - 1)) + kMinFree);

// Zaps the oldest pages that are no roots, `want` of them or as many as there are. Does not commit.
u32 zap_oldest(VmState& vm, u32 want);
// Precondition: mmu lock held. After it the caller must look again whether its root is still good.
// False: the quota is too small for the roots in use.
bool make_pages_available(VmState& vm);

}  // namespace mmu::reclaim

#endif  // MMU_CORE_RECLAIM_H_
