// The host's side of HostMemory: what backs an hva page, and what the host does to it.

#include <algorithm>

#include "harness/host_memory.h"

namespace twinwalk {

// ---- regions

HostMemory::Region& HostMemory::region(std::uint64_t page) {
  Region& r = regions_[page / kRegionPages];
  if (r.epoch != epoch_) {
    r = Region{};
    r.epoch = epoch_;
    r.level = static_cast<std::uint8_t>(host_page_level_);
  }
  return r;
}

HostMemory::Region HostMemory::peek_region(std::uint64_t page) const {
  if (regions_[page / kRegionPages].epoch == epoch_) return regions_[page / kRegionPages];
  Region r;
  r.epoch = epoch_;
  r.level = static_cast<std::uint8_t>(host_page_level_);
  return r;
}

HostMemory::Giant& HostMemory::giant(std::uint64_t page) {
  Giant& g = giants_[page / (kRegionPages * 512)];
  if (g.epoch != epoch_) {
    g = Giant{};
    g.epoch = epoch_;
  }
  return g;
}

unsigned HostMemory::level_of_giant(std::uint64_t page) const {
  const Giant& g = giants_[page / (kRegionPages * 512)];
  return g.epoch == epoch_ && g.split ? 2 : 3;
}

std::uint64_t HostMemory::bound(const Region& r, std::uint64_t page) const {
  if (r.level != 3) return r.run ? r.run + page % kRegionPages : 0;
  const Giant& g = giants_[page / (kRegionPages * 512)];
  return g.epoch == epoch_ && g.run ? g.run + page % (kRegionPages * 512) : 0;
}

std::uint32_t HostMemory::take_run_2m(std::uint64_t page) {
  if (next_2m_ == kRuns2M) return 0;
  const std::uint32_t n = next_2m_++;
  runs_2m_[n] = {epoch_, static_cast<std::uint32_t>(page / kRegionPages * kRegionPages)};
  return static_cast<std::uint32_t>(kRun2MFirst + n * kRegionPages);
}

std::uint64_t HostMemory::bind(Region& r, std::uint64_t page) {
  if (r.level == 3) {
    Giant& g = giant(page);
    if (!g.run && next_1g_ < kRuns1G) {
      runs_1g_[next_1g_] = {
          epoch_, static_cast<std::uint32_t>(page / (kRegionPages * 512) * kRegionPages * 512)};
      g.run = static_cast<std::uint32_t>(kRun1GFirst + next_1g_++ * kRegionPages * 512);
    }
    if (!g.run) r.level = 2;
  }
  if (r.level == 2 && !r.run) {
    r.run = take_run_2m(page);
    if (!r.run) r.level = 1;
  }
  return bound(r, page);
}

HostMemory::HvaPage& HostMemory::entry(Region& r, std::uint64_t page) {
  HvaPage& e = hva_[page];
  if (e.epoch != epoch_) {
    e = HvaPage{};
    e.epoch = epoch_;
    ++r.entries;
  }
  return e;
}

bool HostMemory::page_zero(std::uint64_t page) const {
  const HvaPage* e = known(page);
  const Region& r = regions_[page / kRegionPages];
  return (e && e->zero) || (r.epoch == epoch_ && r.zero);
}

// ---- faulting in

void HostMemory::install(HvaPage& e, std::uint64_t page, std::uint64_t pfn, bool zero,
                         bool read_only) {
  e.mapped = 1;
  e.pfn = static_cast<std::uint32_t>(pfn) & 0x1ff'ffff;
  Frame& f = frames_[pfn];
  if (pfn >= kRun2MFirst && f.epoch == 0) ++huge_touched_;  // first time since the last trim
  f.lines = 0;
  f.epoch = epoch_;
  f.hva_page = static_cast<std::uint32_t>(page);
  f.state = FrameState::kGuest;
  f.flags = static_cast<std::uint8_t>((zero ? kZero : 0) | (read_only ? kReadOnly : 0));
}

std::uint64_t HostMemory::fault_in(std::uint64_t page) {
  if (const HvaPage* e = known(page); e && e->mapped) return e->pfn;
  const bool zero = page_zero(page), read_only = page_read_only(page);
  Region& r = region(page);
  std::uint64_t pfn = known(page) && known(page)->unbound ? 0 : bind(r, page);
  if (!pfn) pfn = take_small_frame();
  if (pfn) install(entry(r, page), page, pfn, zero, read_only);
  return pfn;
}

HostMemory::Lookup HostMemory::fault_in_and_look(std::uint64_t page) {
  const std::uint64_t pfn = fault_in(page);
  if (!pfn) return {};
  return {true, !page_read_only(page), static_cast<std::uint8_t>(level_of(region(page), page)),
          pfn};
}

// Of a line that holds no content yet.
std::uint64_t HostMemory::peek_elsewhere(std::uint64_t offset, unsigned size) const {
  const HvaPage* e = known(offset / kPage);
  const bool zero =
      e && e->mapped ? (frames_[e->pfn].flags & kZero) != 0 : page_zero(offset / kPage);
  return zero ? 0 : extract(seed_word(offset), offset & 7, size);
}

void HostMemory::poke(std::uint64_t hva, unsigned size, std::uint64_t value) {
  const std::uint64_t pfn = fault_in((hva - kHvaBase) / kPage);
  if (pfn) store(pfn * kPage + hva % kPage, size, value);
}

bool HostMemory::is_huge(std::uint64_t hva) const {
  const std::uint64_t page = (hva - kHvaBase) / kPage;
  return level_of(peek_region(page), page) >= 2;
}

// ---- what the host does

// Calls `whole(region, first page)` for each 2M region that [hva, hva + pages) covers,
// `part(region, page)` for every page of the others, which are split first.
template <class Part, class Whole>
void HostMemory::by_region(std::uint64_t hva, std::uint64_t pages, Part part, Whole whole) {
  std::uint64_t page = (hva - kHvaBase) / kPage;
  const std::uint64_t end = page + pages;
  while (page < end) {
    const std::uint64_t next = std::min(end, (page / kRegionPages + 1) * kRegionPages);
    Region& r = region(page);
    if (next - page == kRegionPages) {
      whole(r, page);
    } else {
      split(r, page);
      for (std::uint64_t p = page; p < next; ++p) part(r, p);
    }
    page = next;
  }
}

void HostMemory::split(Region& r, std::uint64_t page) {
  if (r.level == 1) return;
  bind(r, page);  // untouched pages stay where the huge page would have put them
  if (r.level == 3) {
    giant(page).split = true;
    r.run = static_cast<std::uint32_t>(bound(r, page / kRegionPages * kRegionPages));
  }
  r.level = 1;
}

void HostMemory::move_page(Region& r, std::uint64_t page, std::uint64_t to) {
  HvaPage& e = entry(r, page);
  const bool zero = page_zero(page), read_only = page_read_only(page);
  if (!e.mapped) {  // never touched: only the binding goes
    const std::uint64_t old = e.unbound ? 0 : bound(r, page);
    e.unbound = 1;
    if (old) give_back(old);
    return;
  }
  const std::uint64_t from = e.pfn;
  const Frame old = frames_[from];
  if (!to) to = take_small_frame();
  if (!to) return;  // no memory to move it to: it stays
  install(e, page, to, zero, read_only);
  e.unbound = 1;
  Frame& f = frames_[to];
  f.lines = old.lines;
  if (old.flags & kZero) f.flags |= kZero;
  for (std::uint64_t lines = old.lines; lines; lines &= lines - 1) {
    const std::uint64_t at = static_cast<std::uint64_t>(__builtin_ctzll(lines)) * 64;
    std::memcpy(bytes(to * kPage + at), bytes(from * kPage + at), 64);
  }
  give_back(from);
}

void HostMemory::drop_page(Region& r, std::uint64_t page) {
  HvaPage& e = entry(r, page);
  const std::uint64_t old = e.mapped ? e.pfn : e.unbound ? 0 : bound(r, page);
  e.mapped = 0;
  e.unbound = 1;
  e.zero = 1;
  e.protection = static_cast<std::uint32_t>(Protection::kWritable) & 3;
  if (old) give_back(old);
}

void HostMemory::drop_region(Region& r, std::uint64_t page) {
  new_run(r, page);
  for (std::uint64_t p = page; r.entries && p < page + kRegionPages; ++p) {
    if (!known(p)) continue;
    if (hva_[p].mapped) give_back(hva_[p].pfn);
    hva_[p] = HvaPage{};
    --r.entries;
  }
  r.zero = true;
  r.read_only = false;
}

// The region lets go of its run; pages that were bound to it and never touched go with it.
void HostMemory::new_run(Region& r, std::uint64_t page) {
  const std::uint64_t old = bound(r, page);
  if (old && readers_ && readers_->reaches(old, kRegionPages)) {
    complain(Complaint::kTableFreedInUse,
             "a huge page is given back while a TLB entry still reaches it", old * kPage);
  }
  if (r.level == 3) {
    giant(page).split = true;
    r.level = 2;
  }
  r.run = r.level == 2 ? take_run_2m(page) : 0;
  if (!r.run) r.level = 1;
}

void HostMemory::invalidate(std::uint64_t hva, std::uint64_t pages) {
  by_region(
      hva, pages, [this](Region& r, std::uint64_t page) { drop_page(r, page); },
      [this](Region& r, std::uint64_t page) { drop_region(r, page); });
}

void HostMemory::remap(std::uint64_t hva, std::uint64_t pages) {
  by_region(
      hva, pages, [this](Region& r, std::uint64_t page) { move_page(r, page, 0); },
      [this](Region& r, std::uint64_t page) {
        new_run(r, page);
        for (std::uint64_t p = page; r.entries && p < page + kRegionPages; ++p) {
          if (!known(p)) continue;
          if (hva_[p].mapped) move_page(r, p, bound(r, p));
          hva_[p].unbound = 0;
        }
      });
}

void HostMemory::protect(std::uint64_t hva, std::uint64_t pages, bool writable) {
  const Protection wanted = writable ? Protection::kWritable : Protection::kReadOnly;
  const auto mark = [this, writable](std::uint64_t page) {
    if (!hva_[page].mapped) return;
    Frame& f = frames_[hva_[page].pfn];
    f.flags = static_cast<std::uint8_t>(writable ? f.flags & ~kReadOnly : f.flags | kReadOnly);
  };
  by_region(
      hva, pages,
      [&](Region& r, std::uint64_t page) {
        entry(r, page).protection = static_cast<std::uint32_t>(wanted) & 3;
        mark(page);
      },
      [&](Region& r, std::uint64_t page) {
        if (r.level == 3) giant(page).split = true;
        r.read_only = !writable;
        for (std::uint64_t p = page; r.entries && p < page + kRegionPages; ++p) {
          if (!known(p)) continue;
          hva_[p].protection = static_cast<std::uint32_t>(Protection::kInherit) & 3;
          mark(p);
        }
      });
}

void HostMemory::break_cow(std::uint64_t hva) {
  const std::uint64_t page = (hva - kHvaBase) / kPage;
  Region& r = region(page);
  split(r, page);
  entry(r, page).protection = static_cast<std::uint32_t>(Protection::kWritable) & 3;
  move_page(r, page, 0);
}

void HostMemory::huge_split(std::uint64_t hva) {
  const std::uint64_t page = (hva - kHvaBase) / kPage;
  split(region(page), page);
}

void HostMemory::huge_collapse(std::uint64_t hva) {
  const std::uint64_t page = (hva - kHvaBase) / kPage / kRegionPages * kRegionPages;
  Region& r = region(page);
  if (r.level != 1) return;
  for (std::uint64_t p = page; r.entries && p < page + kRegionPages; ++p) {
    if (page_read_only(p) != r.read_only) return;  // one protection a huge page
  }
  const std::uint32_t run = take_run_2m(page);
  if (!run) return;
  const std::uint64_t old = r.run;
  if (old && readers_ && readers_->reaches(old, kRegionPages)) {
    complain(Complaint::kTableFreedInUse,
             "a huge page is given back while a TLB entry still reaches it", old * kPage);
  }
  r.level = 2;
  r.run = run;
  for (std::uint64_t p = page; r.entries && p < page + kRegionPages; ++p) {
    if (!known(p)) continue;
    if (hva_[p].mapped) move_page(r, p, bound(r, p));
    hva_[p].unbound = 0;
  }
}

}  // namespace twinwalk
