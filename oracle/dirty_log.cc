#include "oracle/dirty_log.h"

#include <algorithm>

namespace twinwalk::oracle {

void DirtyLog::reset() {
  for (unsigned i = 0; i < logs_.size(); ++i) clear(i);
}

void DirtyLog::clear(unsigned slot) {
  Log& log = logs_[slot];
  for (const std::uint64_t gfn : log.gfns) log.bitmap[(gfn - log.first) / 64] = 0;
  log.gfns.clear();
}

void DirtyLog::set_all(unsigned slot, const Memslot& where) {
  for (std::uint64_t at = 0; at < where.bytes; at += kPageBytes) note(slot, where, where.gpa + at);
}

std::optional<std::uint64_t> DirtyLog::missing(unsigned slot,
                                               std::span<const std::uint64_t> given) const {
  const Log& log = logs_[slot];
  if (log.gfns.empty()) return std::nullopt;
  std::size_t found = 0;
  std::uint64_t last = ~std::uint64_t{0};
  for (const std::uint64_t gfn : given) {
    const std::uint64_t page = gfn - log.first;
    if (gfn != last && page / 64 < log.bitmap.size())
      found += log.bitmap[page / 64] >> (page % 64) & 1;
    last = gfn;
  }
  if (found == log.gfns.size()) return std::nullopt;
  for (const std::uint64_t gfn : log.gfns) {
    if (!std::binary_search(given.begin(), given.end(), gfn)) return gfn;
  }
  return std::nullopt;
}

void DirtyLog::clear_range(unsigned slot, std::uint64_t first, std::uint64_t pages) {
  Log& log = logs_[slot];
  std::erase_if(log.gfns, [&](std::uint64_t gfn) {
    if (gfn - first >= pages) return false;
    log.bitmap[(gfn - log.first) / 64] &= ~(std::uint64_t{1} << ((gfn - log.first) & 63));
    return true;
  });
}

void DirtyLog::moved(unsigned slot, std::uint64_t gfn) {
  Log& log = logs_[slot];
  for (std::uint64_t& g : log.gfns) g += gfn - log.first;
  log.first = gfn;
}

void DirtyLog::note(unsigned slot, const Memslot& where, std::uint64_t gpa) {
  Log& log = logs_[slot];
  const std::uint64_t gfn = gpa / kPageBytes;
  log.first = where.gpa / kPageBytes;
  const std::size_t words = static_cast<std::size_t>(where.bytes / kPageBytes + 63) / 64;
  if (log.bitmap.size() < words) log.bitmap.resize(words);
  std::uint64_t& word = log.bitmap[(gfn - log.first) / 64];
  const std::uint64_t mask = std::uint64_t{1} << ((gfn - log.first) & 63);
  if (word & mask) return;
  word |= mask;
  log.gfns.push_back(gfn);
}

}  // namespace twinwalk::oracle
