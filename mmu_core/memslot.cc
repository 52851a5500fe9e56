#include "mmu_core/memslot.h"

#include <cstring>

#include "mmu_core/tdp/attributes.h"

namespace mmu {
namespace {

// Entries at `level` that a range of pages overlaps.
u64 entries_at(Gfn base, u64 pages, unsigned level) {
  const unsigned shift = 9 * (level - 1);
  return ((base.raw + pages - 1) >> shift) - (base.raw >> shift) + 1;
}

u64 dirty_bytes(u64 pages) { return (pages + 63) / 64 * sizeof(u64); }

// An array of pointers is one, too.
template <class T>
u64 bytes_of(u64 count) {
  return count * sizeof(T);  // NOLINT(bugprone-sizeof-expression)
}

// All zero: nothing mapped, nothing forbidden, nothing dirty.
template <class T>
bool allocate(Platform& platform, u64 count, T*& array) {
  array = static_cast<T*>(platform.alloc_object(bytes_of<T>(count)));
  if (array) std::memset(static_cast<void*>(array), 0, bytes_of<T>(count));
  return array != nullptr;
}

template <class T>
void release(Platform& platform, T*& array, u64 count) {
  if (array) platform.free_object(array, bytes_of<T>(count));
  array = nullptr;
}

template <class T>
T* detach(T*& old, T* kept) {
  T* const taken = old == kept ? nullptr : old;
  old = nullptr;
  return taken;
}

// A range is not mapped large where the slot covers it only in part, nor anywhere if guest and host
// frames do not line up at that size (KVM: kvm_alloc_memslot_metadata).
void forbid_large(SlotArrays& arrays, Gfn base, u64 pages, Hva hva) {
  for (unsigned level = 2; level <= kRmapLevels; ++level) {
    LargeInfo* const large = arrays.large[level - 1];
    const u64 count = entries_at(base, pages, level);
    const u64 within = pages_of_level(level) - 1;
    if ((base.raw ^ (hva.raw >> 12)) & within) {
      for (u64 i = 0; i < count; ++i) large[i].disallow = 1;
      continue;
    }
    if (base.raw & within) large[0].disallow = 1;
    if ((base.raw + pages) & within) large[count - 1].disallow = 1;
  }
}

bool overlap(const Memslot& slot, Gfn base, u64 pages) {
  return slot.used && base.raw < slot.base.raw + slot.pages && slot.base.raw < base.raw + pages;
}

bool fits(Gfn base, u64 pages, u8 maxphyaddr) {
  const u64 limit = u64{1} << (maxphyaddr - 12);
  return pages != 0 && pages <= limit && base.raw <= limit - pages;
}

}  // namespace

Memslot* Memslots::find_and_note(SlotTable& table, Gfn gfn) {
  // An unused slot has no pages, so it contains nothing.
  for (u32 id = 0; id < kMaxMemslots; ++id) {
    if (!table.slot[id].contains(gfn)) continue;
    hint_ = id;
    return &table.slot[id];
  }
  return nullptr;
}

const Memslot* Memslots::reached(Gfn gfn) const {
  if (!private_) return find(gfn);
  const bool is_private = !(gfn.raw & shared_gfn_bit_);
  gfn = Gfn{gfn.raw & ~shared_gfn_bit_};
  return private_->contains(gfn) == is_private ? find(gfn) : nullptr;
}

Memslot* Memslots::by_id(u32 id) {
  SlotTable& table = copy_[active_];
  return id < kMaxMemslots && table.slot[id].used ? &table.slot[id] : nullptr;
}

Status Memslots::validate(const MemslotRequest& request, u8 maxphyaddr) const {
  using Kind = MemslotRequest::Kind;
  if (request.id >= kMaxMemslots) return Status::kInvalid;
  const Memslot& old = active().slot[request.id];
  if (old.used != (request.kind != Kind::kAdd)) return Status::kInvalid;
  if (request.kind == Kind::kDelete || request.kind == Kind::kFlags) return Status::kOk;

  // It stays where it is, wherever the guest's addresses end by now (KVM: __kvm_set_memory_region,
  // "Nothing to change").
  if (request.kind == Kind::kMove && request.gfn == old.base) return Status::kOk;
  const u64 pages = request.kind == Kind::kAdd ? request.pages : old.pages;
  if (!fits(request.gfn, pages, maxphyaddr)) return Status::kInvalid;
  if (request.kind == Kind::kAdd) {
    if (request.hva.raw % kPageSize) return Status::kInvalid;
    if (request.hva.raw + (pages << 12) - 1 < request.hva.raw) return Status::kInvalid;
  }
  for (const Memslot& other : active().slot) {
    if (other.id != request.id && overlap(other, request.gfn, pages)) return Status::kInvalid;
  }
  return Status::kOk;
}

Status Memslots::publish_invalid(u32 id) {
  Memslot next = active().slot[id];
  if (!next.used) return Status::kInvalid;
  next.invalid = true;
  swap_in(id, next);
  return Status::kOk;
}

void Memslots::restore(u32 id) {
  Memslot next = active().slot[id];
  next.invalid = false;
  swap_in(id, next);
}

Status Memslots::publish(const MemslotRequest& request) {
  Memslot next = active().slot[request.id];
  const Status status = prepare(request, next);
  if (status == Status::kOk) swap_in(request.id, next);
  return status;
}

// Turns `next`, which is the slot as it is, into what the request asks for.
Status Memslots::prepare(const MemslotRequest& request, Memslot& next) {
  switch (request.kind) {
    case MemslotRequest::Kind::kDelete:
      next = Memslot{};
      return Status::kOk;
    case MemslotRequest::Kind::kFlags:
      next.read_only = request.read_only;
      next.invalid = false;
      return set_log_dirty(next, request.log_dirty);
    case MemslotRequest::Kind::kMove: {
      u64* const dirty = next.arrays.dirty;
      next.base = request.gfn;
      next.invalid = false;
      const Status status = allocate_arrays(next);
      next.arrays.dirty = dirty;
      return status;
    }
    case MemslotRequest::Kind::kAdd:
      break;
  }
  next = Memslot{};
  next.used = true;
  next.space = space_;
  next.id = request.id;
  next.base = request.gfn;
  next.pages = request.pages;
  next.hva = request.hva;
  next.read_only = request.read_only;
  if (allocate_arrays(next) != Status::kOk) return Status::kNoMemory;
  const Status status = set_log_dirty(next, request.log_dirty);
  if (status != Status::kOk) free_arrays(next.arrays, next.pages, next.base);
  return status;
}

// The log begins empty each time that it is switched on.
Status Memslots::set_log_dirty(Memslot& slot, bool on) {
  if (on && !slot.log_dirty) {
    if (slot.arrays.dirty) {
      std::memset(slot.arrays.dirty, 0, dirty_bytes(slot.pages));
    } else if (!allocate(platform_, dirty_bytes(slot.pages) / sizeof(u64), slot.arrays.dirty)) {
      return Status::kNoMemory;
    }
  }
  slot.log_dirty = on;
  return Status::kOk;
}

void Memslots::swap_in(u32 id, const Memslot& next) {
  SlotTable& inactive = copy_[1 - active_];
  inactive = active();
  inactive.slot[id] = next;
  inactive.logged = inactive.count_logged();
  inactive.generation = inactive.generation | kGenerationInProgress;
  active_ = 1 - active_;
}

bool Memslots::next_generation_wraps() const {
  return ((generation() + kAddressSpaces) & (u64{1} << kMmioGenerationBits) - 1) < kAddressSpaces;
}

void Memslots::finish_update() {
  Concurrent<u64>& generation = copy_[active_].generation;
  generation = (generation & ~kGenerationInProgress) + kAddressSpaces;
}

Status Memslots::allocate_arrays(Memslot& slot) {
  SlotArrays fresh;
  bool all = allocate(platform_, chunks_of(slot.pages) + 1, fresh.chunk);
  for (unsigned level = 2; level <= kRmapLevels; ++level) {
    const u64 count = entries_at(slot.base, slot.pages, level);
    all = all && allocate(platform_, count, fresh.rmap[level - 1]);
    all = all && allocate(platform_, count, fresh.large[level - 1]);
  }
  if (!all) {
    free_arrays(fresh, slot.pages, slot.base);
    return Status::kNoMemory;
  }
  forbid_large(fresh, slot.base, slot.pages, slot.hva);
  slot.arrays = fresh;
  if (private_) tdp::note_mixed(slot, *private_, slot.base, slot.base + (slot.pages - 1));
  return Status::kOk;
}

void Memslots::free_arrays(SlotArrays& arrays, u64 pages, Gfn base) {
  SlotChunk* made = arrays.chunk ? arrays.chunk[chunks_of(pages)] : nullptr;
  while (made) {
    SlotChunk* const older = made->older;
    release(platform_, made, 1);
    made = older;
  }
  release(platform_, arrays.chunk, chunks_of(pages) + 1);
  release(platform_, arrays.dirty, dirty_bytes(pages) / sizeof(u64));
  for (unsigned level = 2; level <= kRmapLevels; ++level) {
    const u64 count = entries_at(base, pages, level);
    release(platform_, arrays.rmap[level - 1], count);
    release(platform_, arrays.large[level - 1], count);
  }
}

SlotArrays Memslots::take_arrays(u32 id) {
  SlotArrays& old = copy_[1 - active_].slot[id].arrays;
  const SlotArrays& kept = copy_[active_].slot[id].arrays;
  SlotArrays taken;
  taken.chunk = detach(old.chunk, kept.chunk);
  taken.dirty = detach(old.dirty, kept.dirty);
  for (unsigned i = 0; i < kRmapLevels; ++i) {
    taken.rmap[i] = detach(old.rmap[i], kept.rmap[i]);
    taken.large[i] = detach(old.large[i], kept.large[i]);
  }
  return taken;
}

void Memslots::clear() {
  for (Memslot& slot : copy_[active_].slot)
    if (slot.used) free_arrays(slot.arrays, slot.pages, slot.base);
  copy_[0] = copy_[1] = SlotTable{};
  copy_[0].generation = copy_[1].generation =
      (u64{1} << kMmioGenerationBits) - kUpdatesToFirstWrap * kAddressSpaces + space_;
  active_ = 0;
  hint_ = 0;
}

}  // namespace mmu
