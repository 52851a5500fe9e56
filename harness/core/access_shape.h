#ifndef TWINWALK_HARNESS_CORE_ACCESS_SHAPE_H_
#define TWINWALK_HARNESS_CORE_ACCESS_SHAPE_H_

// What an access touches, from its words alone.

#include "harness/trace/op.h"
#include "mmu_core/types.h"

namespace twinwalk {

inline bool stores(const Op& op) {
  return op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
}

// A fetch takes one word and so never leaves its page.
inline bool crosses(const Op& op) {
  return op.access() != AccessKind::kFetch &&
         (op.gva & (mmu::kPageSize - 1)) + op.size > mmu::kPageSize;
}

inline std::uint64_t second_page(const Op& op) { return (op.gva | (mmu::kPageSize - 1)) + 1; }

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_ACCESS_SHAPE_H_
