#ifndef MMU_CORE_TDP_PRIVATE_RANGES_H_
#define MMU_CORE_TDP_PRIVATE_RANGES_H_

// Which guest-physical memory is private (KVM: kvm->mem_attr_array). Sorted ranges that do not
// touch each other; the rest is shared.

#include "mmu_core/types.h"

namespace mmu::tdp {

class PrivateRanges {
 public:
  static constexpr u32 kMost = 64;

  // False: there is no room for another range; nothing changed.
  bool set(Gfn first, u64 pages, bool is_private);
  bool contains(Gfn gfn) const;
  // Are these pages all of one kind?
  bool uniform(Gfn first, u64 pages) const;
  bool empty() const { return count_ == 0; }

 private:
  struct Range {
    u64 first = 0, end = 0;
  };
  // How many ranges end before `at`.
  u32 before(u64 at) const;

  Range range_[kMost];
  u32 count_ = 0;
};

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_PRIVATE_RANGES_H_
