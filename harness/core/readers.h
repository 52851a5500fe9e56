#ifndef TWINWALK_HARNESS_CORE_READERS_H_
#define TWINWALK_HARNESS_CORE_READERS_H_

// What the core frees while others may still read it (mmu::Platform::begin_reading): it waits here
// until each section that had begun by then has ended.

#include <cstdint>
#include <vector>

#include "mmu_core/platform.h"

namespace twinwalk {

class Readers {
 public:
  struct Freed {
    mmu::Hpa table;  // if `object` is null
    void* object = nullptr;
    mmu::u64 size = 0;          // of the object
    std::uint32_t readers = 0;  // contexts, as bits, whose sections it still waits for
  };

  void reset() {
    waiting_.clear();
    reading_ = 0;
  }
  void begin(unsigned context) { reading_ |= 1u << context; }
  // Calls give_back(Freed) for what waited for this section only, oldest first.
  template <class GiveBack>
  void end(unsigned context, const GiveBack& give_back) {
    const std::uint32_t mine = 1u << context;
    reading_ &= ~mine;
    std::size_t kept = 0;
    for (Freed freed : waiting_) {
      freed.readers &= ~mine;
      if (freed.readers != 0) {
        waiting_[kept++] = freed;
      } else {
        give_back(freed);
      }
    }
    waiting_.resize(kept);
  }
  // False: nobody reads, it can go at once.
  bool defer(Freed freed) {
    if (reading_ == 0) return false;
    freed.readers = reading_;
    waiting_.push_back(freed);
    return true;
  }

 private:
  std::vector<Freed> waiting_;
  std::uint32_t reading_ = 0;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_READERS_H_
