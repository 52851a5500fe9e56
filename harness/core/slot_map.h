#ifndef TWINWALK_HARNESS_CORE_SLOT_MAP_H_
#define TWINWALK_HARNESS_CORE_SLOT_MAP_H_

// The memslots as the trace defines them. Kept beside the core's own, so that what is looked up
// here has not passed through the core.

#include <cstdint>

#include "harness/core/private_memory.h"
#include "harness/trace/machine.h"
#include "harness/trace/outcome.h"

namespace twinwalk {

struct SlotView {
  bool used = false;
  bool read_only = false, log_dirty = false;
  std::uint64_t gpa = 0, bytes = 0, hva = 0;
  bool holds(std::uint64_t address) const { return address - gpa < bytes; }  // unused: nothing
  std::uint64_t hva_of(std::uint64_t address) const { return hva + (address - gpa); }
};

// Of one address space.
class SlotMap {
 public:
  // One slot 0 over [0, memory_bytes).
  void reset(std::uint64_t memory_bytes, std::uint64_t shared_bit = 0) {
    kinds_.reset(shared_bit);
    for (SlotView& s : slots_) s = SlotView{};
    slots_[0] = {true, false, false, 0, memory_bytes, kHvaBase};
  }
  // Precondition: id < kMaxSlots. The caller has seen the core accept what it changes.
  SlotView& operator[](std::uint64_t id) { return slots_[id]; }
  const SlotView& operator[](std::uint64_t id) const { return slots_[id]; }

  // Private and shared memory.
  PrivateMemory& kinds() { return kinds_; }
  const PrivateMemory& kinds() const { return kinds_; }

  // The slot that holds `gpa`; null: no memory. Where there are kinds of memory that is said of the
  // page alone, and until the next call.
  const SlotView* find(std::uint64_t gpa) const {
    if (kinds_.on()) return find_by_kind(gpa);
    return find_slot(gpa);
  }

  // The gpa at which the guest sees host virtual address `hva`. `expected`, where the guest's own
  // walk says the access goes, settles it if it is one of several aliases; otherwise the lowest
  // memslot does. kUnknownGpa if no memslot shows the hva.
  std::uint64_t gpa_of(std::uint64_t hva, std::uint64_t expected) const {
    std::uint64_t found = kUnknownGpa;
    for (const SlotView& s : slots_) {
      if (!s.used || hva - s.hva >= s.bytes) continue;
      const std::uint64_t gpa = kinds_.shown_at(s.gpa + (hva - s.hva));
      if (gpa == expected) return gpa;
      if (found == kUnknownGpa) found = gpa;
    }
    return found;
  }
  // The same if exactly one memslot shows the hva; otherwise kUnknownGpa.
  std::uint64_t only_gpa_of(std::uint64_t hva) const {
    std::uint64_t found = kUnknownGpa;
    for (const SlotView& s : slots_) {
      if (!s.used || hva - s.hva >= s.bytes) continue;
      if (found != kUnknownGpa) return kUnknownGpa;
      found = kinds_.shown_at(s.gpa + (hva - s.hva));
    }
    return found;
  }

 private:
  const SlotView* find_slot(std::uint64_t gpa) const {
    for (const SlotView& s : slots_) {
      if (s.holds(gpa)) return &s;
    }
    return nullptr;
  }
  const SlotView* find_by_kind(std::uint64_t gpa) const {
    const std::uint64_t base = kinds_.without_bit(gpa);
    const SlotView* const s = kinds_.of_other_kind(gpa) ? nullptr : find_slot(base);
    if (s == nullptr) return nullptr;
    shown_ = *s;
    shown_.gpa += gpa - base;
    return &shown_;
  }

  SlotView slots_[kMaxSlots];
  PrivateMemory kinds_;
  mutable SlotView shown_;
};

// Of both address spaces.
class SlotMaps {
 public:
  void reset(std::uint64_t memory_bytes, std::uint64_t shared_bit = 0) {
    spaces_[0].reset(memory_bytes, shared_bit);
    spaces_[1].reset(memory_bytes);
  }
  // Precondition: space < kSpaces.
  SlotMap& operator[](std::uint64_t space) { return spaces_[space]; }
  const SlotMap& operator[](std::uint64_t space) const { return spaces_[space]; }

 private:
  SlotMap spaces_[kSpaces];
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_SLOT_MAP_H_
