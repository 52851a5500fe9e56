#include "mmu_core/guest_memory.h"

#include <atomic>

namespace mmu {
namespace {

// Where a gpa's bytes are now.
struct Location {
  GuestMemory::Result result = GuestMemory::Result::kNoSlot;
  const Memslot* slot = nullptr;
  Hpa hpa;
};

Location locate_once(Platform& platform, Memslots& slots, Gpa gpa, bool write) {
  using Result = GuestMemory::Result;
  Location at;
  const Gfn gfn = Gfn::of(gpa);
  at.slot = slots.find(gfn);
  if (!at.slot) return at;
  if (at.slot->invalid) {
    at.result = Result::kSlotLeaves;
    return at;
  }
  if (write && at.slot->read_only) {
    at.result = Result::kReadOnly;
    return at;
  }
  const FrameLookup found = platform.lookup_frame(at.slot->hva_of(gfn), write);
  switch (found.kind) {
    case FrameLookup::Kind::kFrame:
      at.result = Result::kOk;
      at.hpa = found.pfn.base() + gpa.raw % kPageSize;
      break;
    case FrameLookup::Kind::kReadOnly:
      at.result = Result::kReadOnly;
      break;
    case FrameLookup::Kind::kNoFrame:
    case FrameLookup::Kind::kPoisoned:
    case FrameLookup::Kind::kLater:
      at.result = Result::kNoFrame;
      break;
  }
  return at;
}

// A lookup may call back, and so the memslots change meanwhile: then neither the slot nor the frame
// is good any more.
Location locate(Platform& platform, Memslots& slots, Gpa gpa, bool write) {
  for (;;) {
    const u64 generation = slots.generation();
    const Location at = locate_once(platform, slots, gpa, write);
    if (slots.generation() == generation) return at;
  }
}

// The core has stored there for the guest.
void note_store(Platform& platform, const Location& at, Gpa gpa, unsigned size) {
  GuestMemory::mark_dirty(*at.slot, Gfn::of(gpa));
  if (at.slot->watched(Gfn::of(gpa))) platform.on_tracked_write(at.slot->space, gpa, size);
}

}  // namespace

GuestMemory::Result GuestMemory::read(Gpa gpa, unsigned size, u64& value) {
  const Location at = locate(platform_, slots_, gpa, false);
  if (at.result == Result::kOk) value = platform_.read_guest(at.hpa, size);
  return at.result;
}

GuestMemory::Page GuestMemory::page(Gfn gfn) {
  const Location at = locate(platform_, slots_, gfn.base(), false);
  Page page;
  if (at.result != Result::kOk) return page;
  page.platform_ = &platform_;
  page.hpa_ = at.hpa;
  return page;
}

GuestMemory::Result GuestMemory::write(Gpa gpa, unsigned size, u64 value) {
  const Location at = locate(platform_, slots_, gpa, true);
  if (at.result != Result::kOk) return at.result;
  platform_.write_guest(at.hpa, size, value);
  note_store(platform_, at, gpa, size);
  return Result::kOk;
}

GuestMemory::Result GuestMemory::compare_exchange(Gpa gpa, unsigned size, u64 expected,
                                                  u64 desired) {
  const Location at = locate(platform_, slots_, gpa, true);
  if (at.result != Result::kOk) return at.result;
  if (!platform_.cmpxchg_guest(at.hpa, size, expected, desired)) return Result::kRaced;
  note_store(platform_, at, gpa, size);
  return Result::kOk;
}

void GuestMemory::mark_dirty(const Memslot& slot, Gfn gfn) {
  if (!slot.log_dirty || !slot.arrays.dirty) return;
  const u64 index = gfn - slot.base;
  const u64 mask = u64{1} << (index % 64);
  // Another vCPU may set a neighbour's bit at the same time.
  std::atomic_ref<u64> word(slot.arrays.dirty[index / 64]);
  if (!(word.load(std::memory_order_relaxed) & mask)) {
    word.fetch_or(mask, std::memory_order_release);
  }
}

}  // namespace mmu
