#ifndef TWINWALK_HARNESS_THREADS_DIRTY_WATCH_H_
#define TWINWALK_HARNESS_THREADS_DIRTY_WATCH_H_

// Is every page that a guest wrote in the dirty log? A page whose last store came after the last
// collection that had it was over must be in the next one.

#include <atomic>
#include <cstdint>
#include <vector>

namespace twinwalk {

class DirtyWatch {
 public:
  static constexpr std::uint64_t kGfns = 1 << 16;  // what lies above is not looked at

  DirtyWatch() : stored_(kGfns), logged_(kGfns) {}

  void reset() {
    for (std::atomic<std::uint64_t>& time : stored_) time.store(0, kAny);
    logged_.assign(kGfns, 0);
    now_.store(1, kAny);
  }
  // By a vCPU that is in the guest still.
  void stored(std::uint64_t gfn) {
    if (gfn < kGfns) stored_[gfn].store(now_.fetch_add(1, kAny), kAny);
  }
  // By the host's thread alone, after a collection: this page was in it.
  void logged(std::uint64_t gfn) {
    if (gfn < kGfns) logged_[gfn] = time();
  }
  std::uint64_t time() { return now_.fetch_add(1, kAny); }
  // Nobody runs. A page of [gfn, gfn + pages) that was stored to after `since` and is not in what
  // was collected; kGfns if there is none.
  std::uint64_t lost(std::uint64_t gfn, std::uint64_t pages, std::uint64_t since) const {
    for (std::uint64_t g = gfn; g < gfn + pages && g < kGfns; ++g) {
      const std::uint64_t stored = stored_[g].load(kAny);
      if (stored > since && stored > logged_[g]) return g;
    }
    return kGfns;
  }

 private:
  static constexpr std::memory_order kAny = std::memory_order_relaxed;  // orders nothing

  std::vector<std::atomic<std::uint64_t>> stored_;
  std::vector<std::uint64_t> logged_;
  std::atomic<std::uint64_t> now_ = 1;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_THREADS_DIRTY_WATCH_H_
