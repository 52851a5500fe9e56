#include "oracle/history.h"

#include <algorithm>

#include "oracle/image.h"

namespace twinwalk::oracle {
namespace {

constexpr std::size_t kInitialPages = 256;

}  // namespace

void History::reset(const Root& root) {
  everything_ = all_but_globals_ = {};
  for (const std::uint16_t p : touched_pcids_) by_pcid_[p] = structures_[p] = {};
  touched_pcids_.clear();
  if (pages_.empty()) pages_.resize(kInitialPages);
  if (++trace_ == 0) {
    std::fill(pages_.begin(), pages_.end(), PageCover{});
    trace_ = 1;
  }
  used_ = 0;
  large_ = false;
  roots_.clear();
  roots_.push_back({root, 0, 0, kStillThere});
}

void History::drop_everything(Time now, const Rule& rule) {
  everything_ = {now, &rule};
  std::erase_if(roots_, [](const UsedRoot& r) { return r.end != kStillThere; });
}

void History::drop_all_but_globals(Time now, const Rule& rule) { all_but_globals_ = {now, &rule}; }

void History::drop_pcid(unsigned pcid, Time now, const Rule& rule) {
  if (by_pcid_[pcid].time == 0 && structures_[pcid].time == 0) {
    touched_pcids_.push_back(static_cast<std::uint16_t>(pcid));
  }
  by_pcid_[pcid] = {now, &rule};
}

void History::drop_structures(unsigned pcid, Time now, const Rule& rule) {
  if (by_pcid_[pcid].time == 0 && structures_[pcid].time == 0) {
    touched_pcids_.push_back(static_cast<std::uint16_t>(pcid));
  }
  structures_[pcid] = {now, &rule};
}

void History::drop_page(unsigned pcid, std::uint64_t gva, std::uint64_t bytes, Time now,
                        const Rule& rule) {
  note_page(pcid, gva, bytes, now, rule);
}

void History::drop_global_page(std::uint64_t gva, std::uint64_t bytes, Time now, const Rule& rule) {
  note_page(kGlobal, gva, bytes, now, rule);
}

void History::fault_page(unsigned pcid, std::uint64_t gva, std::uint64_t bytes, Time now,
                         const Rule& rule) {
  note_page(pcid, gva, bytes, now, rule);
  note_page(kFaulted + pcid, gva, bytes, now, rule);
}

void History::load_root(const Root& root, unsigned pcid, Time now) {
  UsedRoot* same = nullptr;
  for (UsedRoot& r : roots_) {
    if (r.end == kStillThere) r.end = now;
    if (r.root == root && r.pcid == pcid) same = &r;
  }
  if (same != nullptr) {
    same->end = kStillThere;
  } else {
    roots_.push_back({root, pcid, now, kStillThere});
  }
}

Cover History::translation(unsigned pcid, std::uint64_t gva, std::uint64_t bytes) const {
  return later(later(everything_, all_but_globals_),
               later(by_pcid_[pcid], page_cover(pcid, gva, bytes)));
}

Cover History::global_translation(unsigned pcid, std::uint64_t gva, std::uint64_t bytes) const {
  return later(everything_,
               later(page_cover(kGlobal, gva, bytes), page_cover(kFaulted + pcid, gva, bytes)));
}

Cover History::structures(unsigned pcid) const {
  return later(later(everything_, all_but_globals_), later(by_pcid_[pcid], structures_[pcid]));
}

void History::note_page(unsigned tag, std::uint64_t gva, std::uint64_t bytes, Time now,
                        const Rule& rule) {
  if (bytes != kPageBytes) large_ = true;
  for (const std::uint64_t size : kPageSizes)
    if (size <= bytes) slot(key_of(tag, gva, size)).cover = {now, &rule};
}

Cover History::page_cover(unsigned tag, std::uint64_t gva, std::uint64_t bytes) const {
  Cover cover;
  for (const std::uint64_t size : kPageSizes) {
    if (size > bytes) break;
    if (const PageCover* p = find(key_of(tag, gva, size))) cover = later(cover, p->cover);
    if (!large_) break;
  }
  return cover;
}

History::PageCover& History::slot(std::uint64_t key) {
  if (2 * (used_ + 1) > pages_.size()) grow();
  const std::size_t mask = pages_.size() - 1;
  std::size_t i = static_cast<std::size_t>(key * 0x9e37'79b9'7f4a'7c15u >> 32) & mask;
  while (pages_[i].trace == trace_ && pages_[i].key != key) i = (i + 1) & mask;
  if (pages_[i].trace != trace_) {
    ++used_;
    pages_[i] = {key, trace_, {}};
  }
  return pages_[i];
}

const History::PageCover* History::find(std::uint64_t key) const {
  const std::size_t mask = pages_.size() - 1;
  std::size_t i = static_cast<std::size_t>(key * 0x9e37'79b9'7f4a'7c15u >> 32) & mask;
  for (; pages_[i].trace == trace_; i = (i + 1) & mask) {
    if (pages_[i].key == key) return &pages_[i];
  }
  return nullptr;
}

void History::grow() {
  std::vector<PageCover> old(pages_.size() * 2);
  old.swap(pages_);
  used_ = 0;
  for (const PageCover& p : old) {
    if (p.trace == trace_) slot(p.key).cover = p.cover;
  }
}

}  // namespace twinwalk::oracle
