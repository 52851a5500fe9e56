#ifndef TWINWALK_HARNESS_CORE_ALLOCATION_FAILURES_H_
#define TWINWALK_HARNESS_CORE_ALLOCATION_FAILURES_H_

// Allocations of the core that fail because the trace says so (`fail-alloc`), tables and objects
// alike.

#include <cstdint>

#include "mmu_core/platform.h"

namespace twinwalk {

class AllocationFailures {
 public:
  void reset() { *this = {}; }
  void ask(std::uint64_t after, std::uint64_t count) {
    after_ = after;
    count_ = count;
  }

  // Whether the allocation at hand fails.
  bool next_fails() {
    if (after_) {
      --after_;
      return false;
    }
    if (!count_) return false;
    --count_;
    ++failed_;
    return true;
  }

  // CoreHost::memory_comes_back, to that context: each of those inside the core looks for itself.
  bool come_back(unsigned context) {
    const bool injected = failed_ != seen_[context];
    seen_[context] = failed_;
    if (failed_ >= kMost) after_ = count_ = 0;
    return injected;
  }

 private:
  // So many can one trace make the core retry through; the host finds memory after that.
  static constexpr unsigned kMost = 256;
  std::uint64_t after_ = 0, count_ = 0;
  unsigned failed_ = 0;
  unsigned seen_[mmu::kMaxContexts] = {};  // when the context last looked
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_ALLOCATION_FAILURES_H_
