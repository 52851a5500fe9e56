#include "kvm_runner/core_arena.h"

#include <cstdlib>
#include <cstring>

#include "harness/trace/content.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

CoreArena::~CoreArena() {
  for (const auto& [object, bytes] : objects_) std::free(object);
}

void CoreArena::reset() {
  pages_.clear();
  owners_.clear();
  free_frames_.clear();
  free_tables_.clear();
  table_live_.clear();
  descriptors_.clear();
  next_table_ = live_tables_ = frames_used_ = 0;
  for (const auto& [object, bytes] : objects_) std::free(object);
  objects_.clear();
}

// A table that was given back is reused only when there is no fresh one: whoever still reaches it
// finds it as it was.
std::uint64_t* CoreArena::alloc_table(std::uint64_t& hpa) {
  std::uint64_t number = next_table_;
  if (number < place_.table_bytes / kPage) {
    ++next_table_;
    table_live_.push_back(true);
    descriptors_.push_back(nullptr);
  } else if (!free_tables_.empty()) {
    number = free_tables_.back();
    free_tables_.pop_back();
    table_live_[number] = true;
    descriptors_[number] = nullptr;
  } else {
    return nullptr;
  }
  ++live_tables_;
  hpa = place_.hpa + place_.frame_bytes + number * kPage;
  std::memset(table_at(hpa), 0, kPage);
  return table_at(hpa);
}

bool CoreArena::free_table(std::uint64_t hpa) {
  const std::uint64_t number = (hpa - place_.hpa - place_.frame_bytes) / kPage;
  if (hpa % kPage != 0 || number >= table_live_.size() || !table_live_[number]) return false;
  table_live_[number] = false;
  free_tables_.push_back(number);
  --live_tables_;
  return true;
}

void CoreArena::set_descriptor(std::uint64_t hpa, void* descriptor) {
  const std::uint64_t number = (hpa - place_.hpa - place_.frame_bytes) / kPage;
  if (number < descriptors_.size()) descriptors_[number] = descriptor;
}

void* CoreArena::descriptor_of(std::uint64_t hpa) const {
  const std::uint64_t number = (hpa - place_.hpa - place_.frame_bytes) / kPage;
  return number < descriptors_.size() && table_live_[number] ? descriptors_[number] : nullptr;
}

void* CoreArena::alloc_object(std::uint64_t bytes) {
  void* object = std::aligned_alloc(16, (bytes + 15) & ~std::uint64_t{15});
  if (object == nullptr) return nullptr;
  std::memset(object, 0, bytes);
  objects_.emplace(object, bytes);
  return object;
}

bool CoreArena::free_object(void* object, std::uint64_t bytes) {
  const auto found = objects_.find(object);
  if (found == objects_.end() || found->second != bytes) return false;
  objects_.erase(found);
  std::free(object);
  return true;
}

bool CoreArena::is_guest(std::uint64_t hpa, unsigned size) const {
  const std::uint64_t number = (hpa - place_.hpa) / kPage;
  return hpa >= place_.hpa && number < owners_.size() && owners_[number] != kNoPage &&
         hpa % kPage + size <= kPage;
}

std::uint64_t CoreArena::take_frame() {
  std::uint64_t number = frames_used_;
  if (number < place_.frame_bytes / kPage) {
    ++frames_used_;
    owners_.push_back(kNoPage);
  } else if (!free_frames_.empty()) {
    number = free_frames_.front();
    free_frames_.erase(free_frames_.begin());
  } else {
    return 0;
  }
  return place_.hpa + number * kPage;
}

void CoreArena::drop_frame(std::uint64_t hpa) {
  const std::uint64_t number = (hpa - place_.hpa) / kPage;
  owners_[number] = kNoPage;
  free_frames_.push_back(number);
}

std::uint64_t CoreArena::frame_of(std::uint64_t offset) {
  const std::uint64_t base = offset & ~(kPage - 1);
  Page& page = pages_[base / kPage];
  if (page.hpa != 0) return page.hpa;
  page.hpa = take_frame();
  if (page.hpa == 0) return 0;
  owners_[(page.hpa - place_.hpa) / kPage] = base;
  auto* words = reinterpret_cast<std::uint64_t*>(frame_at(page.hpa));
  for (std::uint64_t i = 0; i < kPage / 8; ++i) words[i] = page.zero ? 0 : seed_word(base + 8 * i);
  return page.hpa;
}

bool CoreArena::offset_of(std::uint64_t hpa, std::uint64_t& offset) const {
  if (!is_guest(hpa, 1)) return false;
  offset = owners_[(hpa - place_.hpa) / kPage] + hpa % kPage;
  return true;
}

bool CoreArena::is_shared(std::uint64_t offset) const {
  const auto found = pages_.find(offset / kPage);
  return found != pages_.end() && found->second.shared;
}

void CoreArena::share(std::uint64_t offset, bool shared) { pages_[offset / kPage].shared = shared; }

void CoreArena::move_frame(std::uint64_t offset) {
  Page& page = pages_[offset / kPage];
  page.shared = false;
  if (page.hpa == 0) return;
  const std::uint64_t fresh = take_frame();
  if (fresh == 0) return;
  std::memcpy(frame_at(fresh), frame_at(page.hpa), kPage);
  drop_frame(page.hpa);
  page.hpa = fresh;
  owners_[(fresh - place_.hpa) / kPage] = offset & ~(kPage - 1);
}

void CoreArena::discard(std::uint64_t offset) {
  Page& page = pages_[offset / kPage];
  if (page.hpa != 0) drop_frame(page.hpa);
  page = {0, true, false};
}

std::uint64_t CoreArena::word(std::uint64_t offset) const {
  const auto found = pages_.find(offset / kPage);
  if (found == pages_.end()) return seed_word(offset);
  const Page& page = found->second;
  if (page.hpa == 0) return page.zero ? 0 : seed_word(offset);
  return *reinterpret_cast<const std::uint64_t*>(place_.memory + (page.hpa - place_.hpa) +
                                                 (offset & (kPage - 8)));
}

}  // namespace twinwalk::kvm
