#ifndef TWINWALK_HARNESS_PROCESSOR_TOUCH_MEMORY_H_
#define TWINWALK_HARNESS_PROCESSOR_TOUCH_MEMORY_H_

// The end of an access whose addresses are translated: the data.

#include <cstdint>

#include "harness/processor/processor.h"

namespace twinwalk::processor {

// `first`: bytes of the access that lie on the first page, at result.hpa[0]; the others are at
// hpa[1]. Afterwards result.value is what was there before.
template <class Memory, class Result>
void touch_memory(Memory& memory, const Access& access, unsigned first, Result& result) {
  if (access.kind == AccessKind::kFetch) {
    result.value = memory.load(result.hpa[0] & ~std::uint64_t{7}, 8);
    return;
  }
  const unsigned second = access.size - first;
  std::uint64_t old = 0;
  if (access.kind != AccessKind::kWrite) {
    old = memory.load(result.hpa[0], first);
    if (second) old |= memory.load(result.hpa[1], second) << (8 * first);
  }
  result.value = old;
  if (access.kind == AccessKind::kRead) return;
  const std::uint64_t value = access.kind == AccessKind::kRmw ? old + access.value : access.value;
  memory.store(result.hpa[0], first, value);
  if (second) memory.store(result.hpa[1], second, value >> (8 * first));
}

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_TOUCH_MEMORY_H_
