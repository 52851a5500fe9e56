#ifndef TWINWALK_HARNESS_CORE_FAULT_TALLY_H_
#define TWINWALK_HARNESS_CORE_FAULT_TALLY_H_

// How often one access met the same fault.
//
// A fault that is met for the first time is progress: of a path in two dimensions each table page
// may lack its translation, then the right to be written, and then a frame of its own, before the
// page itself is reached. An access that gets nowhere comes back to a fault that it has had: there
// are no more different ones than pages on its path times ways to touch them.

#include <array>
#include <cstdint>

namespace twinwalk {

struct CoreFault {
  std::uint64_t page = 0;  // gva, or with two dimensions gpa
  std::uint32_t what = 0;  // the access that faulted, and how
};

class FaultTally {
 public:
  // Counts one more. Returns how often this fault has been met now.
  unsigned count(const CoreFault& fault) {
    unsigned i = 0;
    while (i < used_ && (met_[i].page != fault.page || met_[i].what != fault.what)) ++i;
    if (i == kMost) return ++others_;
    if (i == used_) met_[used_++] = {fault.page, fault.what, 0};
    return ++met_[i].times;
  }

 private:
  static constexpr unsigned kMost = 64;  // all beyond count as one
  struct Met {
    std::uint64_t page;
    std::uint32_t what;
    unsigned times;
  };
  std::array<Met, kMost>
      met_;  // every access has a tally, and few of them a fault: none is cleared
  unsigned used_ = 0, others_ = 0;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_FAULT_TALLY_H_
