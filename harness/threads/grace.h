#ifndef TWINWALK_HARNESS_THREADS_GRACE_H_
#define TWINWALK_HARNESS_THREADS_GRACE_H_

// What the core frees while others may still read it (mmu::Platform::begin_reading), for threads
// that really run at once: it waits until each section that had begun by then has ended. Readers
// take no lock.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "mmu_core/platform.h"

namespace twinwalk {

class Grace {
 public:
  struct Freed {
    mmu::Hpa table;  // if `object` is null
    void* object = nullptr;
    mmu::u64 size = 0;
    std::uint64_t when = 0;
  };

  void begin(unsigned context) { since_[context] = now_.load(); }
  void end(unsigned context) { since_[context] = kOutside; }

  // give_back(Freed) for this, and for what waited, as soon as nobody can read it any more.
  template <class GiveBack>
  void defer(Freed freed, const GiveBack& give_back) {
    const std::lock_guard lock(lock_);
    freed.when = now_++;
    waiting_.push_back(freed);
    std::uint64_t oldest = kOutside;
    for (const std::atomic<std::uint64_t>& since : since_)
      if (since < oldest) oldest = since;
    std::size_t gone = 0;
    while (gone < waiting_.size() && waiting_[gone].when < oldest) give_back(waiting_[gone++]);
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(gone));
  }
  // Everything that waits. Nobody reads.
  template <class GiveBack>
  void finish(const GiveBack& give_back) {
    for (const Freed& freed : waiting_) give_back(freed);
    waiting_.clear();
  }

 private:
  static constexpr std::uint64_t kOutside = ~std::uint64_t{0};

  std::atomic<std::uint64_t> since_[mmu::kMaxContexts] = {kOutside, kOutside, kOutside, kOutside,
                                                          kOutside, kOutside, kOutside, kOutside};
  std::atomic<std::uint64_t> now_ = 0;
  std::mutex lock_;
  std::vector<Freed> waiting_;  // oldest first
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_THREADS_GRACE_H_
