#ifndef TWINWALK_HARNESS_CORE_DIRTY_RINGS_H_
#define TWINWALK_HARNESS_CORE_DIRTY_RINGS_H_

// With options=dirty-ring: what the host has taken from the vCPUs' rings. Whatever a vCPU makes
// dirty is there as well as in the log; the reference knows the log only.

#include <cstdint>
#include <set>
#include <utility>

#include "harness/trace/machine.h"

namespace twinwalk {

class DirtyRings {
 public:
  void reset(const Machine& machine) {
    // With initially-set the log has pages that nobody has written.
    on_ = machine.core != Dimension::kShadow && (machine.options & option::kDirtyRing) != 0 &&
          (machine.options & option::kInitiallySet) == 0;
    stays_in_log_ = (machine.options & option::kManualClear) != 0;
    taken_.clear();
    for (bool& m : moved_) m = false;
  }
  bool on() const { return on_; }

  // A memslot with its log is at other gfns now; the rings have the old ones.
  void moved(std::uint64_t slot, std::uint64_t space) { moved_[space * kMaxSlots + slot] = true; }
  // Since the last time.
  bool was_moved(std::uint64_t slot, std::uint64_t space) {
    bool& moved = moved_[space * kMaxSlots + slot];
    return stays_in_log_ ? moved : std::exchange(moved, false);
  }
  // `word`: gfn, and in bit 63 the address space.
  void take(std::uint64_t word) { taken_.insert(word); }
  // The rings are empty, and the log had this page.
  bool had(std::uint64_t gfn, std::uint64_t space) {
    const std::uint64_t word = gfn | space << 63;
    return stays_in_log_ ? taken_.count(word) != 0 : taken_.erase(word) != 0;
  }

 private:
  bool on_ = false, stays_in_log_ = false;
  std::set<std::uint64_t> taken_;
  bool moved_[kSpaces * kMaxSlots] = {};
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_DIRTY_RINGS_H_
