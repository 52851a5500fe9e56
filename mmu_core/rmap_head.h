#ifndef MMU_CORE_RMAP_HEAD_H_
#define MMU_CORE_RMAP_HEAD_H_

#include "mmu_core/types.h"

namespace mmu {

// Head of a chain of SpteRefs: 0 none; bit 0 set: one SpteRef in place; bit 0 clear: an RmapChain*
// (rmap.h).
struct RmapHead {
  u64 word = 0;
};

}  // namespace mmu

#endif  // MMU_CORE_RMAP_HEAD_H_
