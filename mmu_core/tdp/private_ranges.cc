#include "mmu_core/tdp/private_ranges.h"

namespace mmu::tdp {

u32 PrivateRanges::before(u64 at) const {
  u32 i = 0;
  while (i < count_ && range_[i].end < at) ++i;
  return i;
}

bool PrivateRanges::set(Gfn gfn, u64 pages, bool is_private) {
  const u64 first = gfn.raw, end = gfn.raw + pages;
  // [from, to) of the ranges touch what is set; what of them lies outside remains.
  const u32 from = before(first);
  u32 to = from;
  while (to < count_ && range_[to].first <= end) ++to;
  Range now[2];
  u32 n = 0;
  const u64 left = from < to && range_[from].first < first ? range_[from].first.load() : first;
  const u64 right = from < to && range_[to - 1].end > end ? range_[to - 1].end.load() : end;
  if (is_private) {
    now[n++] = {left, right};
  } else {
    if (left < first) now[n++] = {left, first};
    if (right > end) now[n++] = {end, right};
  }
  const u32 count = count_ - (to - from) + n;
  if (count > kMost) return false;
  changes_.exchange(changes_ + 1);
  if (from + n < to) {
    for (u32 i = to; i < count_; ++i) range_[i - to + from + n] = range_[i];
  } else {
    for (u32 i = count_; i > to; --i) range_[i - 1 - to + from + n] = range_[i - 1];
  }
  for (u32 i = 0; i < n; ++i) range_[from + i] = now[i];
  count_ = count;
  changes_ = changes_ + 1;
  return true;
}

bool PrivateRanges::contains(Gfn gfn) const {
  return read([&] {
    const u32 i = before(gfn.raw + 1);
    return i < count_ && range_[i].first <= gfn.raw;
  });
}

bool PrivateRanges::uniform(Gfn first, u64 pages) const {
  const u64 end = first.raw + pages;
  return read([&] {
    const u32 i = before(first.raw + 1);
    if (i >= count_ || range_[i].first >= end) return true;
    return range_[i].first <= first.raw && range_[i].end >= end;
  });
}

}  // namespace mmu::tdp
