#ifndef TWINWALK_HARNESS_THREADS_SECTIONS_H_
#define TWINWALK_HARNESS_THREADS_SECTIONS_H_

// Sections of several threads for whose ends another may wait (mmu::Platform::begin_using_slots).

#include <atomic>
#include <cstdint>
#include <thread>

#include "mmu_core/platform.h"

namespace twinwalk {

class Sections {
 public:
  void begin(unsigned context) {
    if (depth_[context]++ == 0) ++turns_[context];
  }
  void end(unsigned context) {
    if (--depth_[context] == 0) ++turns_[context];
  }
  // Returns when each section of another context that had begun has ended.
  void wait(unsigned context) {
    ++waits_;  // what was written before is seen by who begins now
    for (unsigned other = 0; other < mmu::kMaxContexts; ++other) {
      const std::uint64_t turn = turns_[other];
      if (other == context || turn % 2 == 0) continue;
      while (turns_[other] == turn) std::this_thread::yield();
    }
  }

 private:
  std::atomic<std::uint64_t> turns_[mmu::kMaxContexts] = {};  // odd: in a section
  unsigned depth_[mmu::kMaxContexts] = {};                    // each its context's own
  std::atomic<std::uint64_t> waits_ = 0;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_THREADS_SECTIONS_H_
