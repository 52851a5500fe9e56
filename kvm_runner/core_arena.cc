#include "kvm_runner/core_arena.h"

#include <cstdlib>
#include <cstring>

#include "harness/trace/content.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

CoreArena::~CoreArena() {
  for (const auto& [object, bytes] : objects_) std::free(object);
}

void CoreArena::reset(bool huge_pages) {
  huge_pages_ = huge_pages;
  regions_.clear();
  last_number_ = kNoPage;
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

// A 2M page: fresh frames only. What is passed over to get to its beginning serves single pages.
std::uint64_t CoreArena::take_run() {
  constexpr std::uint64_t kFrames = kRegionBytes / kPage;
  const std::uint64_t skipped = (kRegionBytes - place_.hpa % kRegionBytes) % kRegionBytes / kPage;
  std::uint64_t first = frames_used_;
  while (first % kFrames != skipped % kFrames) ++first;
  if (first + kFrames > place_.frame_bytes / kPage) return 0;
  for (std::uint64_t n = frames_used_; n < first; ++n) free_frames_.push_back(n);
  frames_used_ = first + kFrames;
  owners_.resize(frames_used_, kNoPage);
  return place_.hpa + first * kPage;
}

// Null: nothing there was ever asked for.
CoreArena::Region* CoreArena::find_region(std::uint64_t offset) const {
  const std::uint64_t number = offset / kRegionBytes;
  if (number == last_number_) return last_region_;
  const auto found = regions_.find(number);
  if (found == regions_.end()) return nullptr;
  last_number_ = number;
  return last_region_ = found->second.get();
}

CoreArena::Region& CoreArena::region_at(std::uint64_t offset) {
  if (Region* const there = find_region(offset)) return *there;
  return *(regions_[offset / kRegionBytes] = std::make_unique<Region>());
}

// What the page holds, as bytes of the frame at hpa.
void CoreArena::fill(const Page& page, std::uint64_t offset, std::uint64_t hpa) {
  if (page.hpa == 0 && page.zero) {
    std::memset(frame_at(hpa), 0, kPage);
  } else {
    const void* const from = page.hpa != 0 ? static_cast<const void*>(frame_at(page.hpa))
                                           : static_cast<const void*>(seeds_.at(offset));
    std::memcpy(frame_at(hpa), from, kPage);
  }
}

void CoreArena::give_frame(Page& page, std::uint64_t offset, std::uint64_t hpa) {
  fill(page, offset, hpa);
  if (page.hpa != 0) drop_frame(page.hpa);
  page.hpa = hpa;
  owners_[(hpa - place_.hpa) / kPage] = offset;
}

// All pages of the region get frames of one run, if there is one.
void CoreArena::move_into_run(Region& region, std::uint64_t offset) {
  const std::uint64_t base = offset & ~(kRegionBytes - 1), run = take_run();
  if (run == 0) return;
  for (std::uint64_t at = 0; at < kRegionBytes; at += kPage)
    give_frame(page_of(region, at), base + at, run + at);
  region.huge = true;
}

CoreArena::Region& CoreArena::make_region(std::uint64_t offset) {
  Region& region = region_at(offset);
  if (region.made) return region;
  region.made = true;
  if (huge_pages_) move_into_run(region, offset);
  return region;
}

std::uint64_t CoreArena::frame_of_page(Page& page, std::uint64_t offset) {
  if (page.hpa != 0) return page.hpa;
  const std::uint64_t hpa = take_frame();
  if (hpa != 0) give_frame(page, offset & ~(kPage - 1), hpa);
  return hpa;
}

std::uint64_t CoreArena::frame_of(std::uint64_t offset) {
  return frame_of_page(page_at(offset), offset);
}

CoreArena::Backed CoreArena::backing_of(std::uint64_t offset) {
  Region& region = make_region(offset);
  Page& page = page_of(region, offset);
  return {frame_of_page(page, offset), page.shared, region.huge};
}

bool CoreArena::offset_of(std::uint64_t hpa, std::uint64_t& offset) const {
  if (!is_guest(hpa, 1)) return false;
  offset = owners_[(hpa - place_.hpa) / kPage] + hpa % kPage;
  return true;
}

bool CoreArena::is_shared(std::uint64_t offset) const {
  Region* const region = find_region(offset);
  return region != nullptr && page_of(*region, offset).shared;
}

void CoreArena::share(std::uint64_t offset, bool shared) { page_at(offset).shared = shared; }

void CoreArena::move_frame(std::uint64_t offset) {
  Region& region = make_region(offset);
  region.huge = false;
  Page& page = page_of(region, offset);
  page.shared = false;
  if (page.hpa == 0) return;
  const std::uint64_t fresh = take_frame();
  if (fresh != 0) give_frame(page, offset & ~(kPage - 1), fresh);
}

void CoreArena::discard(std::uint64_t offset) {
  Region& region = make_region(offset);
  region.huge = false;
  Page& page = page_of(region, offset);
  if (page.hpa != 0) drop_frame(page.hpa);
  page = {0, true, false};
}

void CoreArena::move_region(std::uint64_t offset) {
  Region& region = make_region(offset);
  const std::uint64_t base = offset & ~(kRegionBytes - 1);
  const bool huge = region.huge;
  region.huge = false;
  if (huge) move_into_run(region, offset);
  for (std::uint64_t at = 0; at < kRegionBytes; at += kPage) {
    if (!region.huge) move_frame(base + at);
    page_of(region, at).shared = false;
  }
}

void CoreArena::discard_region(std::uint64_t offset) {
  Region& region = region_at(offset);
  region.made = region.huge = false;
  for (Page& page : region.pages) {
    if (page.hpa != 0) drop_frame(page.hpa);
    page = {0, true, false};
  }
}

bool CoreArena::is_huge(std::uint64_t offset) const {
  const Region* const region = find_region(offset);
  return region != nullptr && region->huge;
}

void CoreArena::keep_small(std::uint64_t offset) { region_at(offset).made = true; }

void CoreArena::huge_split(std::uint64_t offset) { make_region(offset).huge = false; }

// One protection a huge page.
void CoreArena::huge_collapse(std::uint64_t offset) {
  Region& region = make_region(offset);
  if (region.huge) return;
  const std::uint64_t base = offset & ~(kRegionBytes - 1);
  for (std::uint64_t at = 0; at < kRegionBytes; at += kPage) {
    if (is_shared(base + at) != is_shared(base)) return;
  }
  move_into_run(region, offset);
}

std::uint64_t CoreArena::word(std::uint64_t offset) const {
  Region* const region = find_region(offset);
  if (region == nullptr) return seed_word(offset & ~std::uint64_t{7});
  const Page& page = page_of(*region, offset);
  if (page.hpa == 0) return page.zero ? 0 : seed_word(offset);
  return *reinterpret_cast<const std::uint64_t*>(place_.memory + (page.hpa - place_.hpa) +
                                                 (offset & (kPage - 8)));
}

}  // namespace twinwalk::kvm
