#ifndef TWINWALK_HARNESS_GUEST_VIEW_H_
#define TWINWALK_HARNESS_GUEST_VIEW_H_

// Guest-physical memory as the trace defines it: memslots over host memory. What the harness itself
// looks through, so that nothing it reports has passed through the core.

#include <cstdint>

#include "harness/host_memory.h"
#include "harness/trace/machine.h"
#include "harness/trace/outcome.h"

namespace twinwalk {

struct SlotView {
  bool used = false;
  bool read_only = false, log_dirty = false;
  std::uint64_t gpa = 0, bytes = 0, hva = 0;
};

class GuestView {
 public:
  explicit GuestView(const HostMemory& memory) : memory_(memory) {}

  // One slot 0 over [0, memory).
  void reset(std::uint64_t memory_bytes);
  // Precondition: id < kMaxSlots. The caller has seen the core accept it.
  SlotView& slot(std::uint64_t id) { return slots_[id]; }
  const SlotView& slot(std::uint64_t id) const { return slots_[id]; }

  const SlotView* find(std::uint64_t gpa) const {
    for (const SlotView& s : slots_) {
      if (gpa - s.gpa < s.bytes && s.used) return &s;
    }
    return nullptr;
  }
  // The 8-aligned word at `gpa`; false if no memslot holds it. Faults nothing in.
  bool read(std::uint64_t gpa, std::uint64_t& word) const {
    const SlotView* s = find(gpa);
    if (s) word = memory_.peek(s->hva + (gpa - s->gpa), 8);
    return s != nullptr;
  }

  // Walks the guest's 4-level tables for `gva`, as Outcome::path wants it. Returns the gpa that the
  // leaf names, kUnknownGpa if the walk ends before one. `cr3` as the register holds it.
  std::uint64_t walk(std::uint64_t cr3, std::uint64_t gva, Path& path) const;

  // The gpa at which the guest sees host virtual address `hva`. `expected`, where the guest's own
  // walk says the access goes, settles it if it is one of several aliases; otherwise the lowest
  // memslot does. kUnknownGpa if no memslot shows the hva.
  std::uint64_t gpa_of(std::uint64_t hva, std::uint64_t expected) const;

 private:
  const HostMemory& memory_;
  SlotView slots_[kMaxSlots];
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_GUEST_VIEW_H_
