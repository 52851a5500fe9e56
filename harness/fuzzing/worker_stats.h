#ifndef TWINWALK_HARNESS_FUZZING_WORKER_STATS_H_
#define TWINWALK_HARNESS_FUZZING_WORKER_STATS_H_

// What a worker tells the driver while it runs: counters in a small file that both map. A worker
// that is killed leaves its last counts behind.

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk::fuzz {

inline constexpr std::uint32_t kStatsMagic = 0x5457'5354;
inline constexpr std::uint32_t kStateCounters = 12288;  // MMU states that can be told apart

using Counter = std::atomic<std::uint64_t>;
static_assert(Counter::is_always_lock_free, "shared between processes");

// Inputs that a worker hands to the referee (see referee.h): one writer, one reader, no lock. When
// it is full, the worker keeps what it has; nobody waits.
class SampleRing {
 public:
  static constexpr std::uint32_t kSlots = 16, kMaxSize = 4092;
  bool full() const {
    return head_.load(std::memory_order_relaxed) - tail_.load(std::memory_order_acquire) >= kSlots;
  }
  // False if it is full or the input too large.
  bool push(const std::uint8_t* data, std::size_t size);
  bool pop(std::vector<std::uint8_t>& out);

 private:
  struct Slot {
    std::uint32_t size = 0;
    std::uint8_t bytes[kMaxSize] = {};
  };
  std::atomic<std::uint32_t> head_{0}, tail_{0};
  Slot slots_[kSlots];
};

inline constexpr std::uint32_t kStatsVersion = 2;
inline constexpr std::size_t kWhySize = 512;

struct WorkerStats {
  std::uint32_t magic = kStatsMagic, version = kStatsVersion;
  Counter execs{0};        // traces
  Counter ops{0};          // operations of traces
  Counter checks{0};       // outcomes judged
  Counter stale{0};        // outcomes that permitted staleness explained
  Counter skipped{0};      // steps that were not executed
  Counter divergences{0};  // traces that diverged, known or not, recorded or not
  Counter recorded{0};     // candidates written
  Counter lost{0};         // candidates that could not be written, and why the last one could not
  char why_lost[kWhySize] = {};
  Counter known{0};     // accepted divergences
  Counter rejected{0};  // inputs that were no trace of the configuration
  Counter states{0};    // MMU states reached
  // Canaries of a seeded bug (see zoo.h).
  Counter canary_reached{0}, canary_triggered{0};
  std::uint32_t hits[kStateCounters] = {};  // traces that reached the MMU state
  SampleRing samples;
};

// Adds to a counter that only this process writes.
inline void add(Counter& c, std::uint64_t n) {
  c.store(c.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

// A candidate could not be written: the reason is there before the count says so.
void note_lost(WorkerStats& stats, std::string_view why);

// A mapping of such a file; the file outlives it.
class StatsFile {
 public:
  StatsFile() = default;
  ~StatsFile();
  StatsFile(const StatsFile&) = delete;
  StatsFile& operator=(const StatsFile&) = delete;
  StatsFile(StatsFile&& other) noexcept;
  StatsFile& operator=(StatsFile&& other) noexcept;

  // Makes a fresh file of zeros. Returns "" or why it failed.
  std::string create(const std::string& path);
  // Maps an existing one, keeping its counts: how a restarted worker goes on. False if it is none.
  bool open(const std::string& path);

  WorkerStats* get() const { return stats_; }
  WorkerStats* operator->() const { return stats_; }

 private:
  std::string map(int fd, const std::string& path);
  WorkerStats* stats_ = nullptr;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_WORKER_STATS_H_
