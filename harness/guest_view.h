#ifndef TWINWALK_HARNESS_GUEST_VIEW_H_
#define TWINWALK_HARNESS_GUEST_VIEW_H_

// Guest-physical memory as the trace defines it: memslots over host memory. What the harness itself
// looks through, so that nothing it reports has passed through the core.

#include <cstdint>

#include "harness/core/slot_map.h"
#include "harness/host_memory.h"
#include "harness/trace/machine.h"
#include "harness/trace/outcome.h"

namespace twinwalk {

class GuestView {
 public:
  GuestView(const HostMemory& memory, const SlotMap& slots) : memory_(memory), slots_(slots) {}

  // The 8-aligned word at `gpa`; false if no memslot holds it. Faults nothing in.
  bool read(std::uint64_t gpa, std::uint64_t& word) const {
    const SlotView* s = slots_.find(gpa);
    if (s) word = memory_.peek(s->hva_of(gpa), 8);
    return s != nullptr;
  }

  // Walks the guest's tables for `gva` in the mode that the registers select, as Outcome::path
  // wants it: in PAE mode the first entry is the PDPTE that is in memory, whatever was latched;
  // with paging off there is none. Returns the gpa that the leaf names, kUnknownGpa if the walk
  // ends before one.
  std::uint64_t walk(const Registers& registers, std::uint64_t gva, Path& path) const;

 private:
  const HostMemory& memory_;
  const SlotMap& slots_;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_GUEST_VIEW_H_
