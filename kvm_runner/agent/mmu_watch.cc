#include "kvm_runner/agent/mmu_watch.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <system_error>

#include "kvm_runner/agent/trace_events.h"

namespace twinwalk::agent {
namespace {

namespace fs = std::filesystem;

const std::string kTracing = "/sys/kernel/tracing";
constexpr const char* kEvents = "/events/kvmmmu";

// Of an entry, KVM's or the guest's: all but the frame that it leads to.
constexpr std::uint64_t kEntryBits = 0xfff0'0000'0000'0fff;
constexpr std::uint64_t kAll = ~std::uint64_t{0};

// What of a field tells a state from another; addresses, frames and generations do not.
std::uint64_t telling_bits(std::string_view name) {
  for (const std::string_view entry : {"pte", "spte", "old_spte", "new_spte"}) {
    if (name == entry) return kEntryBits;
  }
  for (const std::string_view whole : {"role", "level", "unsync", "created", "access", "pferr",
                                       "error_code", "r", "x", "u", "ret", "errno"}) {
    if (name == whole) return kAll;
  }
  return 0;
}

bool write_word(const std::string& path, const char* word) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool written =
      fd >= 0 && write(fd, word, std::strlen(word)) == static_cast<ssize_t>(std::strlen(word));
  if (fd >= 0) close(fd);
  return written;
}

std::string contents_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace

MmuWatch::~MmuWatch() {
  if (is_open()) write_word(kTracing + kEvents + "/enable", "0");
  for (const int fd : buffers_) close(fd);
}

bool MmuWatch::open(std::string& why) {
  if (is_open()) return true;
  std::error_code error;
  if (!fs::exists(kTracing + "/events", error))
    mount("tracefs", kTracing.c_str(), "tracefs", 0, nullptr);
  for (const auto& event : fs::directory_iterator(kTracing + kEvents, error)) {
    if (event.is_directory(error)) learn_kind(contents_of(event.path() / "format"));
  }
  if (kinds_.empty()) {
    why = "this kernel has no tracepoints kvmmmu: " + error.message();
    return false;
  }
  write_word(kTracing + "/options/record-cmd", "0");  // names of processes: of no use here
  if (!write_word(kTracing + kEvents + "/enable", "1")) {
    why = kTracing + kEvents + ": " + std::strerror(errno);
    return false;
  }
  for (unsigned cpu = 0;; ++cpu) {
    const std::string path = kTracing + "/per_cpu/cpu" + std::to_string(cpu) + "/trace_pipe_raw";
    const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) break;
    buffers_.push_back(fd);
  }
  if (!is_open()) why = kTracing + "/per_cpu: " + std::strerror(errno);
  return is_open();
}

void MmuWatch::learn_kind(const std::string& format) {
  EventFormat event;
  if (!parse_event_format(format, event)) return;
  Kind& kind = kinds_[event.id];
  kind.feature = remote::feature_of(event.name);
  for (const EventField& field : event.fields) {
    const std::uint64_t mask = telling_bits(field.name);
    if (mask != 0) kind.fields.push_back({field.offset, field.size, mask});
  }
}

void MmuWatch::begin() {
  read_buffers(false);
  previous_ = 0;
}

std::string MmuWatch::take_news() {
  read_buffers(true);
  return map_.take_news();
}

void MmuWatch::read_buffers(bool count) {
  for (const int fd : buffers_) {
    for (;;) {
      const ssize_t n = read(fd, page_.data(), page_.size());
      if (n <= 0) break;
      if (count) count_page(static_cast<std::size_t>(n));
    }
  }
}

// An event counts by itself, and as what follows an event of that kind.
void MmuWatch::count_page(std::size_t bytes) {
  each_event({page_.data(), bytes}, [this](std::span<const std::uint8_t> event) {
    if (event.size() < 2) return;
    const auto found = kinds_.find(event[0] | unsigned{event[1]} << 8);
    if (found == kinds_.end()) return;
    const Kind& kind = found->second;
    std::uint64_t feature = kind.feature;
    for (const Telling& field : kind.fields)
      feature = remote::feature_of(feature, value_at(field.offset, field.size, event) & field.mask);
    map_.meet(feature);
    map_.meet(remote::feature_of(feature, previous_));
    previous_ = kind.feature;
  });
}

}  // namespace twinwalk::agent
