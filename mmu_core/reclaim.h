#ifndef MMU_CORE_RECLAIM_H_
#define MMU_CORE_RECLAIM_H_

// The bound on shadow pages (KVM: make_mmu_pages_available, kvm_mmu_zap_oldest_mmu_pages, the
// shrinker).

#include "mmu_core/state.h"

namespace mmu::reclaim {

// What one operation may need: a page a level.
inline constexpr u32 kMinFree = 4;
// With less, one access that crosses a page might take away its own first half for ever: the roots
// of the other vCPUs, two ways of four pages from one root, and what every fault wants to find
// free. A smaller quota is raised.
inline constexpr u32 kMinQuota = (kMaxVcpus - 1) + 7 + kMinFree + 2;

// Zaps the oldest pages that are no roots, `want` of them or as many as there are. Does not commit.
u32 zap_oldest(VmState& vm, u32 want);
// Precondition: mmu lock held. After it the caller must look again whether its root is still good.
// False: the quota is too small for the roots in use.
bool make_pages_available(VmState& vm);

}  // namespace mmu::reclaim

#endif  // MMU_CORE_RECLAIM_H_
