#ifndef TWINWALK_HARNESS_THREADS_MEMORY_H_
#define TWINWALK_HARNESS_THREADS_MEMORY_H_

// The host's physical memory for threads that really run at once. Every word that guest or core may
// touch is atomic; what a frame is used for, too, so that a translation that outlives its frame is
// seen in the moment when it is used.
//
//   hva page ──(map_)──► pfn ──(state_)──► free | guest | guest, read-only | table
//
//   hpa:  3G ── low tables ── 4G ── one frame for each hva page ── 8G ── others ── 15G ── tables
//
// Frames that the host takes back are not used again before reset().

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "harness/trace/machine.h"

namespace twinwalk {

class ThreadedMemory {
 public:
  static constexpr std::uint64_t kHvaBytes = std::uint64_t{4} << 30;  // of hva space from kHvaBase

  ThreadedMemory();
  ~ThreadedMemory();
  ThreadedMemory(const ThreadedMemory&) = delete;
  ThreadedMemory& operator=(const ThreadedMemory&) = delete;

  // Every hva page is mapped, writable and zero. Nobody else is inside. `host_page_level`: 1 = 4K,
  // 2 = 2M, 3 = 1G.
  void reset(unsigned host_page_level);

  // ---- hva space; the rest takes what backs() says yes to
  static bool backs(std::uint64_t hva, std::uint64_t bytes) {
    return hva >= kHvaBase && bytes <= kHvaBytes && hva - kHvaBase <= kHvaBytes - bytes;
  }
  struct Lookup {
    bool writable = false;
    std::uint8_t level = 1;
    std::uint64_t pfn = 0;
  };
  Lookup lookup(std::uint64_t hva) const;
  bool is_protected(std::uint64_t hva) const { return !lookup(hva).writable; }
  // The host process at that address, naturally aligned, whatever frame is behind it then. False:
  // the page is protected (again), nothing is done. `done`: it held `expected`.
  std::uint64_t peek(std::uint64_t hva, unsigned size) const;
  bool poke(std::uint64_t hva, unsigned size, std::uint64_t value);
  bool exchange(std::uint64_t hva, unsigned size, std::uint64_t expected, std::uint64_t desired,
                bool& done);
  // Changes, between begin and end of a notifier event for their range. Pages keep their content.
  void move(std::uint64_t hva, std::uint64_t pages);  // to frames of their own
  void protect(std::uint64_t hva, std::uint64_t pages, bool writable);
  void break_cow(std::uint64_t hva);  // if it is protected still
  void huge_split(std::uint64_t hva);
  void huge_collapse(std::uint64_t hva);

  // Grows while a change of many pages goes on.
  std::uint64_t pages_changed() const { return pages_changed_.load(std::memory_order_relaxed); }

  // ---- frames. Naturally aligned within a page, size 1..8.
  std::uint64_t load(std::uint64_t hpa, unsigned size);
  void store(std::uint64_t hpa, unsigned size, std::uint64_t value);
  bool compare_exchange(std::uint64_t hpa, unsigned size, std::uint64_t expected,
                        std::uint64_t desired);

  // ---- page tables
  std::uint64_t* alloc_table(std::uint64_t& hpa, bool below_4g);  // zeroed; null: exhausted
  void free_table(std::uint64_t hpa);
  // What the core keeps of a table (mmu::Platform::set_descriptor).
  void set_descriptor(std::uint64_t hpa, void* descriptor) {
    descriptor_[hpa / kPage] = descriptor;
  }
  void* descriptor_of(std::uint64_t hpa) const {
    return (state(hpa / kPage) & kUseMask) == kTable ? descriptor_[hpa / kPage].load() : nullptr;
  }
  // For the hardware's walk; null, and a complaint, if no table lies there.
  std::uint64_t* table_entry(std::uint64_t hpa);
  std::uint64_t live_tables() const { return live_tables_; }

  // The first use of a frame by someone who must not; null if there was none.
  const char* complaint() const { return complaint_; }

 private:
  static constexpr std::uint64_t kPage = 4096, kHvaPages = kHvaBytes / kPage, kRegion = 512;
  static constexpr std::uint64_t kGiga = (std::uint64_t{1} << 30) / kPage;
  static constexpr std::uint64_t kLowFirst = 3 * kGiga, kOwnFirst = 4 * kGiga,
                                 kOtherFirst = 8 * kGiga, kTableFirst = 15 * kGiga,
                                 kFrames = 16 * kGiga;
  static constexpr std::uint64_t kMostLow = 4096;

  // Words of an older epoch count as they are at the start.
  enum State : std::uint32_t { kFree, kGuest, kReadOnly, kTable, kUseMask = 7, kWritten = 8 };
  static constexpr unsigned kEpochShift = 8;
  static constexpr std::uint64_t kPfnMask = 0xffffffff, kProtected = std::uint64_t{1} << 32;
  static constexpr unsigned kMapEpochShift = 40;

  struct Pool {
    std::uint64_t next = 0, end = 0;
    std::vector<std::uint64_t> freed;  // oldest first, from `head` on
    std::size_t head = 0;
  };

  std::uint64_t load_frame(std::uint64_t hpa, unsigned size) const;
  std::uint32_t state(std::uint64_t pfn) const;
  void set_state(std::uint64_t pfn, std::uint32_t state);
  std::uint64_t entry(std::uint64_t page) const;
  void set_entry(std::uint64_t page, std::uint64_t pfn, bool writable);
  bool is_split(std::uint64_t page) const { return split_[page / kRegion] == epoch_; }
  void split(std::uint64_t page);
  std::uint64_t take_frames(std::uint64_t count);  // aligned to it; 0: none left
  void move_page(std::uint64_t page, std::uint64_t to, bool writable);
  void copy_frame(std::uint64_t from, std::uint64_t to);
  // Of the guest, and for a store the guest's to write?
  bool check(std::uint64_t hpa, bool store);
  void note_written(std::uint64_t pfn);
  std::uint64_t& word_at(std::uint64_t hpa) const {
    return *reinterpret_cast<std::uint64_t*>(arena_ + (hpa & ~std::uint64_t{7}));
  }
  void complain(const char* what);

  std::uint8_t* arena_ = nullptr;
  std::atomic<std::uint32_t>* state_ = nullptr;
  std::atomic<std::uint64_t>* map_ = nullptr;
  std::atomic<void*>* descriptor_ = nullptr;
  std::vector<std::atomic<std::uint32_t>> split_;  // by 2M of hva space: the epoch
  std::uint32_t epoch_ = 0;
  unsigned host_page_level_ = 1;
  std::mutex changing_;  // the map, and which frames are left
  std::uint64_t next_ = 0;
  std::atomic<std::uint64_t> pages_changed_ = 0;
  std::mutex tables_;
  Pool low_, high_;
  std::atomic<std::uint64_t> live_tables_ = 0;
  std::mutex written_lock_;
  std::vector<std::uint64_t> written_;  // frames that are no longer zero
  std::atomic<const char*> complaint_ = nullptr;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_THREADS_MEMORY_H_
