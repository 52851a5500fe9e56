#include "oracle/image.h"

#include <cstring>
#include <new>

#include "harness/trace/x86.h"

namespace twinwalk::oracle {

Image::Image()
    : directory_(static_cast<Page**>(std::calloc(kHvaBytes / kPageBytes, sizeof(Page*)))) {
  if (!directory_) throw std::bad_alloc();
  versions_.resize(1);
}

void Image::reset() {
  for (std::size_t i = 0; i < used_pages_; ++i) directory_[pages_[i]->index] = nullptr;
  used_pages_ = used_histories_ = 0;
  sweeps_.clear();
  versions_.resize(1);
}

Image::Page& Image::touch(std::uint64_t hva) {
  Page*& entry = directory_[index_of(hva)];
  if (entry != nullptr) return *entry;
  // The words stay uninitialised: `lines` says which of them mean anything.
  if (used_pages_ == pages_.size()) pages_.push_back(std::unique_ptr<Page>(new Page));
  Page& page = *pages_[used_pages_++];
  page.lines = 0;
  page.index = static_cast<std::uint32_t>(index_of(hva));
  page.history = 0;
  page.frame_since = sweep_time(hva);
  page.zeroed = false;
  for (const Sweep& s : sweeps_) page.zeroed |= s.zeroes && s.begin <= hva && hva < s.end;
  entry = &page;
  return page;
}

std::uint64_t& Image::word(Page& page, std::uint64_t hva) {
  const std::uint64_t offset = hva - kHvaBase;
  const unsigned line = static_cast<unsigned>(offset >> 6) & 63;
  if (!(page.lines >> line & 1)) {
    page.lines |= bit(line);
    for (unsigned i = 0; i < 8; ++i) {
      page.words[line * 8 + i] = page.zeroed ? 0 : seed_word((offset & ~std::uint64_t{63}) + 8 * i);
    }
  }
  return page.words[(offset >> 3) & 511];
}

void Image::store(std::uint64_t hva, std::uint64_t value, Time now, Hand hand, std::uint64_t page) {
  Page& p = touch(hva);
  std::uint64_t& w = word(p, hva);
  if (w == value) return;
  if ((w | value) & pte::kP) record(p, hva, w, value, now, hand, page);
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
  if (before & pte::kP) {
    Version& old = versions_[newest];
    old.end = now;
    old.ender = hand;
    old.ender_page = through;
  }
  if (!(after & pte::kP)) {
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

std::uint64_t Image::untouched_word(std::uint64_t hva) const {
  for (const Sweep& s : sweeps_) {
    if (s.zeroes && s.begin <= hva && hva < s.end) return 0;
  }
  return seed_word(hva - kHvaBase);
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
  page.lines = 0;
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
  std::uint64_t touched = 0;
  for (std::size_t i = 0; i < used_pages_; ++i) {
    Page& page = *pages_[i];
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
  const Page* page = directory_[index_of(hva)];
  if (page == nullptr || page->history == 0) return nullptr;
  const std::uint32_t i = histories_[page->history - 1]->newest[((hva - kHvaBase) >> 3) & 511];
  return i == 0 ? nullptr : &versions_[i];
}

}  // namespace twinwalk::oracle
