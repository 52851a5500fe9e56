#include "oracle/image.h"

#include <cstring>

#include "harness/trace/x86.h"

namespace twinwalk::oracle {

Image::Image()
    : words_(kHvaBytes / sizeof(std::uint64_t)),
      lines_(kHvaBytes / kPageBytes),
      places_(kHvaBytes / kPageBytes) {
  versions_.resize(1);
}

void Image::reset(std::uint64_t present) {
  present_ = present;
  for (const Page& page : pages_) {
    lines_[page.index] = 0;
    places_[page.index] = kBacked;
  }
  if (backed_.size() > kMostBacked) {
    words_.give_back();
    for (const std::uint32_t index : backed_) places_[index] = 0;
    backed_.clear();
  }
  pages_.clear();
  used_histories_ = 0;
  sweeps_.clear();
  swept_ = false;
  versions_.resize(1);
}

Image::Page& Image::touch(std::uint64_t hva) {
  const std::uint32_t index = static_cast<std::uint32_t>(index_of(hva));
  std::uint32_t& place = places_[index];
  if ((place & ~kBacked) != 0) return pages_[(place & ~kBacked) - 1];
  if (place == 0) backed_.push_back(index);
  Page& page = pages_.emplace_back();
  page.index = index;
  page.frame_since = sweep_time(hva);
  page.zeroed = sweep_zeroes(hva);
  place = kBacked | static_cast<std::uint32_t>(pages_.size());
  return page;
}

std::uint64_t& Image::word(const Page& page, std::uint64_t hva) {
  const std::uint64_t offset = hva - kHvaBase;
  const unsigned line = static_cast<unsigned>(offset >> 6) & 63;
  if (!(lines_[page.index] >> line & 1)) {
    lines_[page.index] |= bit(line);
    const std::uint64_t first = offset & ~std::uint64_t{63};
    for (unsigned i = 0; i < 8; ++i) {
      words_[(first >> 3) + i] = page.zeroed ? 0 : seed_word(first + 8 * i);
    }
  }
  return words_[offset >> 3];
}

void Image::store(std::uint64_t hva, std::uint64_t value, Time now, Hand hand, std::uint64_t page) {
  Page& p = touch(hva);
  std::uint64_t& w = word(p, hva);
  if (w == value) return;
  if ((w | value) & present_) record(p, hva, w, value, now, hand, page);
  w = value;
}

void Image::record(Page& page, std::uint64_t hva, std::uint64_t before, std::uint64_t after,
                   Time now, Hand hand, std::uint64_t through) {
  if (page.history == 0) {
    if (used_histories_ == histories_.size()) histories_.push_back(std::make_unique<History>());
    std::memset(histories_[used_histories_]->newest, 0, sizeof(History));
    page.history = static_cast<std::uint32_t>(++used_histories_);
  }
  std::uint32_t& newest = histories_[page.history - 1]->newest[((hva - kHvaBase) >> 3) & 511];
  if (before & present_) {
    Version& old = versions_[newest];
    old.end = now;
    old.ender = hand;
    old.ender_page = through;
  }
  if (!(after & present_)) {
    // A gap: the next version still links to this one.
    return;
  }
  Version version;
  version.value = after;
  version.begin = now;
  version.maker = hand;
  version.maker_page = through;
  version.previous = newest;
  newest = static_cast<std::uint32_t>(versions_.size());
  versions_.push_back(version);
}

std::uint64_t Image::unstored_word(std::uint64_t offset) const {
  if (!swept_) return seed_word(offset);
  const std::uint64_t hva = kHvaBase + offset;
  const Page* page = find(hva);
  return (page == nullptr ? sweep_zeroes(hva) : page->zeroed) ? 0 : seed_word(offset);
}

Time Image::frame_since_sweeps(std::uint64_t hva) const {
  const Page* page = find(hva);
  return page == nullptr ? sweep_time(hva) : page->frame_since;
}

bool Image::sweep_zeroes(std::uint64_t hva) const {
  for (const Sweep& s : sweeps_) {
    if (s.zeroes && s.begin <= hva && hva < s.end) return true;
  }
  return false;
}

Time Image::sweep_time(std::uint64_t hva) const {
  Time time = 0;
  for (const Sweep& s : sweeps_) {
    if (s.begin <= hva && hva < s.end) time = s.time;
  }
  return time;
}

void Image::drop_page(Page& page, Time now) {
  if (page.history != 0) {
    for (const std::uint32_t i : histories_[page.history - 1]->newest) {
      Version& version = versions_[i];
      if (i == 0 || version.end != kStillThere) continue;
      version.end = now;
      version.ender = Hand::kHost;
    }
  }
  lines_[page.index] = 0;
  page.zeroed = true;
  page.frame_since = now;
}

void Image::sweep(std::uint64_t hva, std::uint64_t pages, Time now, bool zeroes) {
  if (hva < kHvaBase || hva - kHvaBase >= kHvaBytes) return;
  const std::uint64_t begin = hva & ~(kPageBytes - 1);
  const std::uint64_t room = (kHvaBase + kHvaBytes - begin) / kPageBytes;
  const std::uint64_t end = begin + (pages < room ? pages : room) * kPageBytes;
  const std::size_t first = index_of(begin), last = index_of(end - 1);
  if (begin == end) return;
  swept_ = true;
  std::uint64_t touched = 0;
  for (Page& page : pages_) {
    if (page.index < first || page.index > last) continue;
    ++touched;
    if (zeroes) drop_page(page, now);
    page.frame_since = now;
  }
  if (touched != last - first + 1) sweeps_.push_back({begin, end, now, zeroes});
}

void Image::drop(std::uint64_t hva, std::uint64_t pages, Time now) { sweep(hva, pages, now, true); }

void Image::moved(std::uint64_t hva, std::uint64_t pages, Time now) {
  sweep(hva, pages, now, false);
}

const Version* Image::newest(std::uint64_t hva) const {
  const Page* page = find(hva);
  if (page == nullptr || page->history == 0) return nullptr;
  const std::uint32_t i = histories_[page->history - 1]->newest[((hva - kHvaBase) >> 3) & 511];
  return i == 0 ? nullptr : &versions_[i];
}

bool EntryPast::next(Version& out) {
  while (version_ != nullptr && !(value_of(*version_) & pte::kP)) {
    version_ = image_.older(*version_);
  }
  if (version_ == nullptr) return false;
  out = *version_;
  out.value = value_of(*version_);
  version_ = image_.older(*version_);
  while (version_ != nullptr && version_->end == out.begin && value_of(*version_) == out.value) {
    out.begin = version_->begin;
    out.maker = version_->maker;
    out.maker_page = version_->maker_page;
    version_ = image_.older(*version_);
  }
  return true;
}

}  // namespace twinwalk::oracle
