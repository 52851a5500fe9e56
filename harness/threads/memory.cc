#include "harness/threads/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

namespace twinwalk {
namespace {

constexpr std::size_t kQuarantined = 64;  // tables, before one is used again

void* reserve(std::uint64_t bytes) {
  void* const at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) throw std::bad_alloc();
  return at;
}

constexpr std::uint64_t mask_of(unsigned size) {
  return size >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * size)) - 1;
}

}  // namespace

ThreadedMemory::ThreadedMemory()
    : arena_(static_cast<std::uint8_t*>(reserve(kFrames * kPage))),
      state_(static_cast<std::atomic<std::uint32_t>*>(reserve(kFrames * sizeof *state_))),
      map_(static_cast<std::atomic<std::uint64_t>*>(reserve(kHvaPages * sizeof *map_))),
      descriptor_(static_cast<std::atomic<void*>*>(reserve(kFrames * sizeof *descriptor_))),
      split_(kHvaPages / kRegion) {}

ThreadedMemory::~ThreadedMemory() {
  munmap(arena_, kFrames * kPage);
  munmap(state_, kFrames * sizeof *state_);
  munmap(map_, kHvaPages * sizeof *map_);
  munmap(descriptor_, kFrames * sizeof *descriptor_);
}

void ThreadedMemory::reset(unsigned host_page_level) {
  ++epoch_;
  host_page_level_ = host_page_level;
  for (const std::uint64_t pfn : written_) std::memset(arena_ + pfn * kPage, 0, kPage);
  written_.clear();
  next_ = kOtherFirst;
  low_ = {kLowFirst, kLowFirst + kMostLow, {}, 0};
  high_ = {kTableFirst, kFrames, {}, 0};
  live_tables_ = 0;
  complaint_ = nullptr;
}

// ---- words with an epoch

std::uint32_t ThreadedMemory::state(std::uint64_t pfn) const {
  if (pfn >= kFrames) return kFree;
  const std::uint32_t word = state_[pfn];
  if (word >> kEpochShift == epoch_) return word & ((1u << kEpochShift) - 1);
  return pfn >= kOwnFirst && pfn < kOtherFirst ? kGuest : kFree;
}

void ThreadedMemory::set_state(std::uint64_t pfn, std::uint32_t state) {
  state_[pfn] = epoch_ << kEpochShift | state;
}

std::uint64_t ThreadedMemory::entry(std::uint64_t page) const {
  const std::uint64_t word = map_[page];
  return word >> kMapEpochShift == epoch_ ? word : kOwnFirst + page;
}

void ThreadedMemory::set_entry(std::uint64_t page, std::uint64_t pfn, bool writable) {
  map_[page] = std::uint64_t{epoch_} << kMapEpochShift | (writable ? 0 : kProtected) | pfn;
}

void ThreadedMemory::complain(const char* what) {
  const char* none = nullptr;
  complaint_.compare_exchange_strong(none, what);
}

// ---- hva space

ThreadedMemory::Lookup ThreadedMemory::lookup(std::uint64_t hva) const {
  const std::uint64_t page = (hva - kHvaBase) / kPage, word = entry(page);
  Lookup found;
  found.pfn = word & kPfnMask;
  found.writable = !(word & kProtected);
  if (host_page_level_ >= 2 && !is_split(page)) {
    constexpr std::uint64_t kGiant = kRegion * kRegion;
    const std::uint64_t giant = page / kGiant * kGiant;
    bool whole = host_page_level_ == 3;
    for (std::uint64_t p = giant; whole && p < giant + kGiant; p += kRegion) whole = !is_split(p);
    found.level = whole ? 3 : 2;
  }
  return found;
}

// Without the lock, so that readers wait for nobody: what a page held before it moved, it held
// while it was read.
std::uint64_t ThreadedMemory::peek(std::uint64_t hva, unsigned size) const {
  const std::uint64_t page = (hva - kHvaBase) / kPage;
  for (;;) {
    const std::uint64_t word = entry(page);
    const std::uint64_t value = load_frame((word & kPfnMask) * kPage + (hva & (kPage - 1)), size);
    if (entry(page) == word) return value;
  }
}

bool ThreadedMemory::poke(std::uint64_t hva, unsigned size, std::uint64_t value) {
  const std::lock_guard lock(changing_);
  const std::uint64_t word = entry((hva - kHvaBase) / kPage);
  if (word & kProtected) return false;
  store((word & kPfnMask) * kPage + (hva & (kPage - 1)), size, value);
  return true;
}

bool ThreadedMemory::exchange(std::uint64_t hva, unsigned size, std::uint64_t expected,
                              std::uint64_t desired, bool& done) {
  const std::lock_guard lock(changing_);
  const std::uint64_t word = entry((hva - kHvaBase) / kPage);
  if (word & kProtected) return false;
  done = compare_exchange((word & kPfnMask) * kPage + (hva & (kPage - 1)), size, expected, desired);
  return true;
}

void ThreadedMemory::split(std::uint64_t page) { split_[page / kRegion] = epoch_; }

std::uint64_t ThreadedMemory::take_frames(std::uint64_t count) {
  const std::uint64_t first = (next_ + count - 1) / count * count;
  if (first + count > kTableFirst) return 0;
  next_ = first + count;
  return first;
}

void ThreadedMemory::copy_frame(std::uint64_t from, std::uint64_t to) {
  if (!(state(from) & kWritten)) return;
  note_written(to);
  for (std::uint64_t at = 0; at < kPage; at += 8) {
    const std::uint64_t word = std::atomic_ref(word_at(from * kPage + at)).load();
    std::atomic_ref(word_at(to * kPage + at)).store(word);
  }
}

void ThreadedMemory::move_page(std::uint64_t page, std::uint64_t to, bool writable) {
  const std::uint64_t from = entry(page) & kPfnMask;
  set_state(to, writable ? kGuest : kReadOnly);
  copy_frame(from, to);
  set_entry(page, to, writable);
  set_state(from, kFree);
}

void ThreadedMemory::move(std::uint64_t hva, std::uint64_t pages) {
  const std::lock_guard lock(changing_);
  const std::uint64_t first = (hva - kHvaBase) / kPage;
  for (std::uint64_t page = first; page < first + pages; ++page) {
    const std::uint64_t to = take_frames(1);
    if (to == 0) return;  // the rest stays where it is
    split(page);
    move_page(page, to, !(entry(page) & kProtected));
    pages_changed_.fetch_add(1, std::memory_order_relaxed);
  }
}

void ThreadedMemory::protect(std::uint64_t hva, std::uint64_t pages, bool writable) {
  const std::lock_guard lock(changing_);
  const std::uint64_t first = (hva - kHvaBase) / kPage;
  for (std::uint64_t page = first; page < first + pages; ++page) {
    const std::uint64_t pfn = entry(page) & kPfnMask;
    set_entry(page, pfn, writable);
    set_state(pfn, (state(pfn) & kWritten) | (writable ? kGuest : kReadOnly));
    pages_changed_.fetch_add(1, std::memory_order_relaxed);
  }
  // What lies half in the range is no one page any more.
  split(first);
  split(first + pages - 1);
}

void ThreadedMemory::break_cow(std::uint64_t hva) {
  const std::lock_guard lock(changing_);
  const std::uint64_t page = (hva - kHvaBase) / kPage;
  if (!(entry(page) & kProtected)) return;
  const std::uint64_t to = take_frames(1);
  if (to == 0) {  // nobody else has it: as good
    const std::uint64_t pfn = entry(page) & kPfnMask;
    set_entry(page, pfn, true);
    set_state(pfn, (state(pfn) & kWritten) | kGuest);
    return;
  }
  split(page);
  move_page(page, to, true);
}

void ThreadedMemory::huge_split(std::uint64_t hva) {
  const std::lock_guard lock(changing_);
  split((hva - kHvaBase) / kPage);
}

void ThreadedMemory::huge_collapse(std::uint64_t hva) {
  const std::lock_guard lock(changing_);
  const std::uint64_t first = (hva - kHvaBase) / kPage / kRegion * kRegion;
  if (host_page_level_ < 2 || !is_split(first)) return;
  const std::uint64_t to = take_frames(kRegion);
  if (to == 0) return;
  for (std::uint64_t i = 0; i < kRegion; ++i) move_page(first + i, to + i, true);
  split_[first / kRegion] = 0;
}

// ---- frames

bool ThreadedMemory::check(std::uint64_t hpa, bool store) {
  const std::uint32_t use = state(hpa / kPage) & kUseMask;
  if (use == kGuest || (use == kReadOnly && !store)) return true;
  complain(use == kReadOnly ? "a store to a frame that the host has write-protected"
           : use == kTable  ? "a table of the core is used as the guest's memory"
                            : "a frame is used that the host has taken back, or never gave");
  return false;
}

void ThreadedMemory::note_written(std::uint64_t pfn) {
  if (state(pfn) & kWritten) return;
  const std::lock_guard lock(written_lock_);
  const std::uint32_t now = state(pfn);
  if (now & kWritten) return;
  set_state(pfn, now | kWritten);
  written_.push_back(pfn);
}

std::uint64_t ThreadedMemory::load(std::uint64_t hpa, unsigned size) {
  return check(hpa, false) ? load_frame(hpa, size) : 0;
}

std::uint64_t ThreadedMemory::load_frame(std::uint64_t hpa, unsigned size) const {
  const unsigned shift = 8 * (hpa & 7);
  std::uint64_t value = std::atomic_ref(word_at(hpa)).load() >> shift;
  if (shift + 8 * size > 64) value |= std::atomic_ref(word_at(hpa + 7)).load() << (64 - shift);
  return value & mask_of(size);
}

void ThreadedMemory::store(std::uint64_t hpa, unsigned size, std::uint64_t value) {
  if (!check(hpa, true)) return;
  note_written(hpa / kPage);
  const std::uint64_t mask = mask_of(size);
  const unsigned shift = 8 * (hpa & 7);
  const auto put = [this](std::uint64_t at, std::uint64_t bits, std::uint64_t new_bits) {
    const std::atomic_ref word(word_at(at));
    std::uint64_t old = word.load();
    while (!word.compare_exchange_weak(old, (old & ~bits) | new_bits)) {
    }
  };
  put(hpa, mask << shift, (value & mask) << shift);
  if (shift + 8 * size > 64) put(hpa + 7, mask >> (64 - shift), (value & mask) >> (64 - shift));
  check(hpa, true);
}

bool ThreadedMemory::compare_exchange(std::uint64_t hpa, unsigned size, std::uint64_t expected,
                                      std::uint64_t desired) {
  if (!check(hpa, true)) return true;  // nobody is to wait for it
  if ((hpa & 7) + size > 8) {  // two words are not as one here, where nobody looks at values
    if (load_frame(hpa, size) != (expected & mask_of(size))) return false;
    store(hpa, size, desired);
    return true;
  }
  note_written(hpa / kPage);
  const std::atomic_ref word(word_at(hpa));
  const unsigned shift = 8 * (hpa & 7);
  const std::uint64_t mask = mask_of(size) << shift;
  std::uint64_t old = word.load();
  do {
    if ((old & mask) != (expected << shift & mask)) return false;
  } while (!word.compare_exchange_weak(old, (old & ~mask) | (desired << shift & mask)));
  check(hpa, true);
  return true;
}

// ---- page tables

// Plain stores: who still reads the table without a lock races with them, and is seen to.
std::uint64_t* ThreadedMemory::alloc_table(std::uint64_t& hpa, bool below_4g) {
  const std::lock_guard lock(tables_);
  Pool& pool = below_4g ? low_ : high_;
  std::uint64_t pfn;
  if (pool.freed.size() - pool.head > kQuarantined || pool.next == pool.end) {
    if (pool.head == pool.freed.size()) return nullptr;
    pfn = pool.freed[pool.head++];
  } else {
    pfn = pool.next++;
  }
  hpa = pfn * kPage;
  std::memset(arena_ + hpa, 0, kPage);
  descriptor_[pfn] = nullptr;
  set_state(pfn, kTable);
  ++live_tables_;
  return &word_at(hpa);
}

void ThreadedMemory::free_table(std::uint64_t hpa) {
  const std::lock_guard lock(tables_);
  const std::uint64_t pfn = hpa / kPage;
  if ((state(pfn) & kUseMask) != kTable) return complain("free_table of what is no table");
  set_state(pfn, kFree);
  std::memset(arena_ + hpa, 0xdd, kPage);
  (pfn < kOwnFirst ? low_ : high_).freed.push_back(pfn);
  --live_tables_;
}

std::uint64_t* ThreadedMemory::table_entry(std::uint64_t hpa) {
  if ((state(hpa / kPage) & kUseMask) == kTable) return &word_at(hpa);
  complain("the hardware walks a table that is none, or no longer one");
  return nullptr;
}

}  // namespace twinwalk
