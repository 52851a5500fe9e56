#include "oracle/dirty_log.h"

namespace twinwalk::oracle {

void DirtyLog::reset() {
  for (unsigned i = 0; i < logs_.size(); ++i) clear(i);
}

void DirtyLog::clear(unsigned slot) {
  Log& log = logs_[slot];
  for (const std::uint64_t gfn : log.gfns) log.bitmap[(gfn - log.first) / 64] = 0;
  log.gfns.clear();
}

void DirtyLog::clear_range(unsigned slot, std::uint64_t first, std::uint64_t pages) {
  Log& log = logs_[slot];
  std::erase_if(log.gfns, [&](std::uint64_t gfn) {
    if (gfn - first >= pages) return false;
    log.bitmap[(gfn - log.first) / 64] &= ~(std::uint64_t{1} << ((gfn - log.first) & 63));
    return true;
  });
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
