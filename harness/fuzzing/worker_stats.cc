#include "harness/fuzzing/worker_stats.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

namespace twinwalk::fuzz {

bool SampleRing::push(const std::uint8_t* data, std::size_t size) {
  if (size > kMaxSize || full()) return false;
  const std::uint32_t at = head_.load(std::memory_order_relaxed);
  Slot& slot = slots_[at % kSlots];
  slot.size = static_cast<std::uint32_t>(size);
  std::memcpy(slot.bytes, data, size);
  head_.store(at + 1, std::memory_order_release);
  return true;
}

bool SampleRing::pop(std::vector<std::uint8_t>& out) {
  const std::uint32_t at = tail_.load(std::memory_order_relaxed);
  if (at == head_.load(std::memory_order_acquire)) return false;
  const Slot& slot = slots_[at % kSlots];
  // The worker may have died in the middle of anything.
  out.assign(slot.bytes, slot.bytes + (slot.size <= kMaxSize ? slot.size : 0));
  tail_.store(at + 1, std::memory_order_release);
  return true;
}

void note_lost(WorkerStats& stats, std::string_view why) {
  std::memcpy(stats.why_lost, why.data(), std::min(why.size(), kWhySize - 1));
  stats.lost.fetch_add(1, std::memory_order_release);
}

StatsFile::~StatsFile() {
  if (stats_) ::munmap(stats_, sizeof(WorkerStats));
}
StatsFile::StatsFile(StatsFile&& other) noexcept : stats_(std::exchange(other.stats_, nullptr)) {}
StatsFile& StatsFile::operator=(StatsFile&& other) noexcept {
  std::swap(stats_, other.stats_);
  return *this;
}

std::string StatsFile::map(int fd, const std::string& path) {
  void* at = ::mmap(nullptr, sizeof(WorkerStats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return "cannot map " + path + ": " + std::strerror(errno);
  stats_ = static_cast<WorkerStats*>(at);
  return {};
}

std::string StatsFile::create(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return "cannot write " + path + ": " + std::strerror(errno);
  // Allocated now: a full disk must be an error here, not a bus error at the first count.
  const int error = ::posix_fallocate(fd, 0, sizeof(WorkerStats));
  std::string why = error ? "cannot write " + path + ": " + std::strerror(error) : map(fd, path);
  ::close(fd);
  if (why.empty()) new (stats_) WorkerStats;
  return why;
}

bool StatsFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return false;
  struct stat info;
  bool good = ::fstat(fd, &info) == 0 && info.st_size == static_cast<off_t>(sizeof(WorkerStats)) &&
              map(fd, path).empty();
  ::close(fd);
  return good && stats_->magic == kStatsMagic && stats_->version == kStatsVersion;
}

}  // namespace twinwalk::fuzz
