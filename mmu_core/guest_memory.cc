#include "mmu_core/guest_memory.h"

#include <atomic>

namespace mmu {
namespace {

using Result = GuestMemory::Result;

// The slot through which the access goes, and whether it lets it.
Result by_slot(const Memslot* slot, bool write) {
  if (!slot) return Result::kNoSlot;
  if (slot->invalid) return Result::kSlotLeaves;
  return write && slot->read_only ? Result::kReadOnly : Result::kOk;
}

Hva hva_of(const Memslot& slot, Gpa gpa) { return slot.hva_of(Gfn::of(gpa)) + gpa.raw % kPageSize; }

Result result_of(FrameLookup::Kind kind) {
  switch (kind) {
    case FrameLookup::Kind::kFrame:
      return Result::kOk;
    case FrameLookup::Kind::kReadOnly:
      return Result::kReadOnly;
    case FrameLookup::Kind::kNoFrame:
    case FrameLookup::Kind::kPoisoned:
    case FrameLookup::Kind::kLater:
      return Result::kNoFrame;
  }
  __builtin_unreachable();
}

// The core has stored there for the guest.
void note_store(Platform& platform, const Memslot& slot, Gpa gpa, unsigned size) {
  GuestMemory::mark_dirty(slot, Gfn::of(gpa));
  if (slot.watched(Gfn::of(gpa))) platform.on_tracked_write(slot.space, gpa, size);
}

}  // namespace

Result GuestMemory::read(const Memslot& slot, Gpa gpa, unsigned size, u64& value) {
  return result_of(platform_.read_hva(hva_of(slot, gpa), size, value));
}

Result GuestMemory::read(Gpa gpa, unsigned size, u64& value) {
  const Memslot* const slot = slots_.find(Gfn::of(gpa));
  const Result allowed = by_slot(slot, false);
  return allowed == Result::kOk ? read(*slot, gpa, size, value) : allowed;
}

GuestMemory::Page GuestMemory::page(Gfn gfn) {
  Page page;
  const Memslot* const slot = slots_.find(gfn);
  if (by_slot(slot, false) != Result::kOk) return page;
  const FrameLookup found = platform_.lookup_frame(slot->hva_of(gfn), false);
  if (found.kind != FrameLookup::Kind::kFrame) return page;
  page.platform_ = &platform_;
  page.hpa_ = found.pfn.base();
  return page;
}

Result GuestMemory::write(const Memslot& slot, Gpa gpa, unsigned size, u64 value) {
  const Result result = result_of(platform_.write_hva(hva_of(slot, gpa), size, value));
  if (result == Result::kOk) note_store(platform_, slot, gpa, size);
  return result;
}

Result GuestMemory::write(Gpa gpa, unsigned size, u64 value) {
  const Memslot* const slot = slots_.find(Gfn::of(gpa));
  const Result allowed = by_slot(slot, true);
  return allowed == Result::kOk ? write(*slot, gpa, size, value) : allowed;
}

Result GuestMemory::compare_exchange(const Memslot& slot, Gpa gpa, unsigned size, u64 expected,
                                     u64 desired) {
  bool done = false;
  const Result result =
      result_of(platform_.cmpxchg_hva(hva_of(slot, gpa), size, expected, desired, done));
  if (result != Result::kOk) return result;
  if (!done) return Result::kRaced;
  note_store(platform_, slot, gpa, size);
  return Result::kOk;
}

Result GuestMemory::compare_exchange(Gpa gpa, unsigned size, u64 expected, u64 desired) {
  const Memslot* const slot = slots_.find(Gfn::of(gpa));
  const Result allowed = by_slot(slot, true);
  return allowed == Result::kOk ? compare_exchange(*slot, gpa, size, expected, desired) : allowed;
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
