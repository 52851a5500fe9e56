#ifndef MMU_CORE_TDP_PRIVATE_RANGES_H_
#define MMU_CORE_TDP_PRIVATE_RANGES_H_

// Which guest-physical memory is private (KVM: kvm->mem_attr_array). Sorted ranges that do not
// touch each other; the rest is shared. Changed under the mmu lock, read without: who reads while
// they change reads again.

#include "mmu_core/concurrent.h"

namespace mmu::tdp {

class PrivateRanges {
 public:
  static constexpr u32 kMost = 64;

  // False: there is no room for another range; nothing changed.
  bool set(Gfn first, u64 pages, bool is_private);
  bool contains(Gfn gfn) const;
  // Are these pages all of one kind?
  bool uniform(Gfn first, u64 pages) const;

 private:
  struct Range {
    Concurrent<u64> first = 0, end = 0;
  };
  // How many ranges end before `at`.
  u32 before(u64 at) const;

  // What f() finds, of one state of the ranges.
  template <class F>
  bool read(F f) const {
    for (;;) {
      const u64 before = changes_;
      const bool found = f();
      if (before % 2 == 0 && changes_ == before) return found;
    }
  }

  Range range_[kMost];
  Concurrent<u32> count_ = 0;
  Concurrent<u64> changes_ = 0;  // odd while they change
};

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_PRIVATE_RANGES_H_
