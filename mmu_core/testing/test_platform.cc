#include "mmu_core/testing/test_platform.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace mmu::testing {
namespace {

constexpr std::align_val_t kObjectAlignment{16};

Hva page_of(Hva hva) { return Hva{hva.raw & ~(kPageSize - 1)}; }

}  // namespace

RecordingPlatform::~RecordingPlatform() {
  EXPECT_EQ(tables_.size(), 0u) << "tables leaked";
  EXPECT_EQ(objects_.size(), 0u) << "objects leaked";
  for (const auto& [object, size] : objects_) ::operator delete(object, kObjectAlignment);
}

HostPage& RecordingPlatform::host_page(Hva hva) {
  const auto [it, fresh] = host_pages_.try_emplace(page_of(hva));
  if (!fresh) return it->second;
  HostPage& page = it->second;
  page.pfn = Pfn{0};
  for (const LargePage& large : large_pages_) {
    const u64 inside = (hva.raw - large.start.raw) >> 12;
    if (hva < large.start || inside >= pages_of_level(large.level)) continue;
    page.pfn = large.first + inside;
    page.host_level = large.level;
  }
  if (page.pfn == Pfn{0}) page.pfn = Pfn{next_guest_++};
  guest_frames_[page.pfn] = std::make_unique<Page>();
  return page;
}

void RecordingPlatform::back_large(Hva hva, Pfn first, u8 level) {
  const u64 bytes = pages_of_level(level) * kPageSize;
  const Hva start{hva.raw & ~(bytes - 1)};
  large_pages_.push_back({start, first, level});
  // What was there keeps its content and gets its place in the large page (the host's collapse).
  for (auto it = host_pages_.lower_bound(start);
       it != host_pages_.end() && it->first < start + bytes; ++it) {
    const Pfn moved = first + ((it->first.raw - start.raw) >> 12);
    guest_frames_[moved] = std::move(guest_frames_[it->second.pfn]);
    guest_frames_.erase(it->second.pfn);
    it->second.pfn = moved;
    it->second.host_level = level;
  }
}

void RecordingPlatform::migrate(Hva hva) {
  HostPage& page = host_page(hva);
  const Pfn to{next_guest_++};
  guest_frames_[to] = std::move(guest_frames_[page.pfn]);
  guest_frames_.erase(page.pfn);
  page.pfn = to;
  page.host_level = 1;
}

void RecordingPlatform::back_with(Hva hva, Hva other) {
  const Pfn pfn = host_page(other).pfn;
  host_page(hva).pfn = pfn;
}

u64 RecordingPlatform::load(Hva hva) {
  u64 value;
  std::memcpy(&value, guest_bytes(host_page(hva).pfn.base() + hva.raw % kPageSize, 8), 8);
  return value;
}

void RecordingPlatform::store(Hva hva, u64 value) {
  std::memcpy(guest_bytes(host_page(hva).pfn.base() + hva.raw % kPageSize, 8), &value, 8);
}

const u64* RecordingPlatform::table_at(Hpa hpa) const {
  const auto it = tables_.find(Pfn::of(hpa));
  return it == tables_.end() ? nullptr : it->second->data();
}

u64* RecordingPlatform::table_at(Hpa hpa) {
  return const_cast<u64*>(std::as_const(*this).table_at(hpa));
}

bool RecordingPlatform::alloc_table(TableReach reach, Hpa& hpa, u64*& ptr) {
  if (!table_source.take()) return false;
  const Pfn pfn{reach == TableReach::kBelow4G ? next_low_table_++ : next_table_++};
  auto& page = tables_[pfn] = std::make_unique<Page>();
  hpa = pfn.base();
  ptr = page->data();
  return true;
}

void RecordingPlatform::set_descriptor(Hpa table, void* descriptor) {
  if (!table_at(table)) panic("a descriptor of what is no table");
  descriptors_[Pfn::of(table)] = descriptor;
}

void* RecordingPlatform::descriptor_of(Hpa table) const {
  const auto it = descriptors_.find(Pfn::of(table));
  return it == descriptors_.end() ? nullptr : it->second;
}

void RecordingPlatform::free_table(Hpa hpa) {
  descriptors_.erase(Pfn::of(hpa));
  if (hpa.raw % kPageSize || tables_.erase(Pfn::of(hpa)) == 0) panic("free of what is no table");
}

void* RecordingPlatform::alloc_object(u64 size) {
  if (before_alloc_object) before_alloc_object(size);
  if (!object_source.take()) return nullptr;
  void* const object = ::operator new(size, kObjectAlignment);
  std::memset(object, 0xa5, size);  // to be initialised by the core
  objects_[object] = size;
  return object;
}

void RecordingPlatform::free_object(void* object, u64 size) {
  const auto it = objects_.find(object);
  if (it == objects_.end()) panic("free of what is no object");
  if (it->second != size) panic("free of an object with another size than it was allocated with");
  if (before_free_object) before_free_object(size);
  objects_.erase(it);
  ::operator delete(object, kObjectAlignment);
}

std::byte* RecordingPlatform::guest_bytes(Hpa hpa, unsigned size) {
  const auto it = guest_frames_.find(Pfn::of(hpa));
  if (it == guest_frames_.end()) panic("access to a frame that is not the guest's");
  if (hpa.raw % size) panic("misaligned access to guest memory");
  return reinterpret_cast<std::byte*>(it->second->data()) + hpa.raw % kPageSize;
}

u64 RecordingPlatform::read_guest(Hpa hpa, unsigned size) {
  ++guest_reads;
  u64 value = 0;
  std::memcpy(&value, guest_bytes(hpa, size), size);
  return value;
}

void RecordingPlatform::write_guest(Hpa hpa, unsigned size, u64 value) {
  ++guest_writes;
  std::memcpy(guest_bytes(hpa, size), &value, size);
}

bool RecordingPlatform::cmpxchg_guest(Hpa hpa, unsigned size, u64 expected, u64 desired) {
  ++cmpxchgs;
  if (before_cmpxchg) before_cmpxchg(hpa);
  std::byte* const bytes = guest_bytes(hpa, size);
  if (std::memcmp(bytes, &expected, size) != 0) return false;
  std::memcpy(bytes, &desired, size);
  return true;
}

void RecordingPlatform::send_away(Hva hva) { away_.insert(page_of(hva)); }

FrameLookup RecordingPlatform::lookup_frame_or_later(Hva hva, bool write, u64 token) {
  if (!away_.count(page_of(hva))) return lookup_frame(hva, write);
  tokens.push_back(token);
  FrameLookup later;
  later.kind = FrameLookup::Kind::kLater;
  return later;
}

FrameLookup RecordingPlatform::lookup_frame(Hva hva, bool write) {
  waits += away_.erase(page_of(hva));
  const HostPage page = host_page(hva);
  if (after_lookup) after_lookup(hva);
  FrameLookup found;
  found.kind = page.kind;
  if (page.kind == FrameLookup::Kind::kFrame && write && !page.writable) {
    found.kind = FrameLookup::Kind::kReadOnly;
  }
  if (found.kind != FrameLookup::Kind::kFrame) return found;
  found.pfn = page.pfn;
  found.writable = page.writable;
  found.host_level = page.host_level;
  return found;
}

void RecordingPlatform::flush_tlb(const FlushRequest& request) { flushes.push_back(request); }

void RecordingPlatform::on_tracked_write(u32 space, Gpa gpa, unsigned size) {
  for (const bool held : held_[running])
    if (held || shared_[running]) panic("a tracked write is told under a lock");
  tracked_writes.push_back({space, gpa, size});
}

void RecordingPlatform::on_tracked_slot_gone(u32 space, Gfn gfn, u64 pages) {
  if (holds_lock(LockId::kMmu)) panic("the end of a slot is told under the mmu lock");
  tracked_slots_gone.push_back({space, gfn, pages});
}

void RecordingPlatform::lock(LockId id) {
  const int i = static_cast<int>(id);
  for (int later = i; later < 2; ++later) {
    if (held_[running][later]) panic("lock taken twice, or against the order");
  }
  for (const auto& context : held_) {
    if (context[i]) panic("lock taken while another context holds it: a test cannot wait");
  }
  for (const bool shared : shared_)
    if (id == LockId::kMmu && shared) panic("lock taken while others hold it: a test cannot wait");
  held_[running][i] = true;
}

void RecordingPlatform::lock_shared(LockId id) {
  if (id != LockId::kMmu) panic("only the mmu lock is shared");
  if (shared_[running] || held_[running][static_cast<int>(id)]) panic("lock taken twice");
  for (const auto& context : held_) {
    if (context[static_cast<int>(id)])
      panic("lock taken while another context holds it: a test cannot wait");
  }
  shared_[running] = true;
}

void RecordingPlatform::unlock_shared(LockId id) {
  if (id != LockId::kMmu || !shared_[running]) panic("unlock of a lock that is not held");
  shared_[running] = false;
}

void RecordingPlatform::begin_reading() {
  if (reading_[running]) panic("sections of readers do not nest");
  reading_[running] = true;
}

void RecordingPlatform::end_reading() {
  if (!reading_[running]) panic("no section of readers has begun");
  reading_[running] = false;
  for (const bool reading : reading_)
    if (reading) return;
  for (const auto& free : std::exchange(after_readers_, {})) free();
}

void RecordingPlatform::free_table_after_readers(Hpa hpa) {
  for (const bool reading : reading_) {
    if (!reading) continue;
    after_readers_.emplace_back([this, hpa] { free_table(hpa); });
    return;
  }
  free_table(hpa);
}

void RecordingPlatform::free_object_after_readers(void* object, u64 size) {
  for (const bool reading : reading_) {
    if (!reading) continue;
    after_readers_.emplace_back([this, object, size] { free_object(object, size); });
    return;
  }
  free_object(object, size);
}

void RecordingPlatform::unlock(LockId id) {
  bool& held = held_[running][static_cast<int>(id)];
  if (!held) panic("unlock of a lock that is not held");
  held = false;
}

void RecordingPlatform::yield(YieldPoint point, u32 vcpu) {
  if (on_yield) on_yield(point, vcpu);
}

void RecordingPlatform::panic(const char* why) {
  std::fprintf(stderr, "core: %s\n", why);
  std::abort();
}

}  // namespace mmu::testing
