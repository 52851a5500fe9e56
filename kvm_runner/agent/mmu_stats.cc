#include "kvm_runner/agent/mmu_stats.h"

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

namespace twinwalk::agent {
namespace {

constexpr std::size_t kMostHead = 1 << 16;  // a kernel's is some thousand bytes
constexpr std::size_t kDescriptor = 16;     // before the name

std::uint32_t word_at(std::span<const std::uint8_t> bytes, std::size_t at) {
  std::uint32_t word = 0;
  std::memcpy(&word, bytes.data() + at, sizeof word);
  return word;
}

// Of the header: flags, name_size, num_desc, id_offset, desc_offset, data_offset.
constexpr std::size_t kNameSize = 4, kCount = 8, kDescriptors = 16, kData = 20;

Stat::Kind kind_of(std::uint32_t flags, std::uint16_t values) {
  constexpr Stat::Kind kKinds[] = {Stat::Kind::kSum, Stat::Kind::kNow, Stat::Kind::kPeak};
  const std::uint32_t type = flags & 15;
  return values == 1 && type < std::size(kKinds) ? kKinds[type] : Stat::Kind::kOther;
}

bool has_prefix(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

}  // namespace

std::size_t bytes_of_stats_head(std::span<const std::uint8_t> header) {
  if (header.size() < kStatsHeader) return 0;
  const std::uint64_t each = kDescriptor + std::uint64_t{word_at(header, kNameSize)};
  const std::uint64_t end = word_at(header, kDescriptors) + each * word_at(header, kCount);
  return each > kMostHead || end > kMostHead ? 0 : static_cast<std::size_t>(end);
}

bool parse_stats_head(std::span<const std::uint8_t> head, std::vector<Stat>& stats) {
  stats.clear();
  const std::size_t bytes = bytes_of_stats_head(head);
  if (bytes == 0 || bytes > head.size()) return false;
  const std::size_t name_size = word_at(head, kNameSize), each = kDescriptor + name_size;
  for (std::size_t at = word_at(head, kDescriptors); at + each <= bytes; at += each) {
    const auto* name = reinterpret_cast<const char*>(head.data() + at + kDescriptor);
    Stat stat;
    stat.name.assign(name, strnlen(name, name_size));
    // flags; exponent and number of values, two bytes each; offset; size of a bucket
    stat.kind = kind_of(word_at(head, at), static_cast<std::uint16_t>(word_at(head, at + 4) >> 16));
    stat.offset = word_at(head, kData) + word_at(head, at + 8);
    stats.push_back(std::move(stat));
  }
  return true;
}

bool is_of_mmu(const Stat& stat) {
  if (stat.kind == Stat::Kind::kOther) return false;
  constexpr std::string_view kPrefixes[] = {"mmu_",     "pf_",    "pages_", "nx_lpage",
                                            "max_mmu_", "invlpg", "tlb_",   "remote_tlb"};
  return std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [&](std::string_view prefix) { return has_prefix(stat.name, prefix); });
}

bool MmuStats::learn(int fd, std::vector<Watched>& stats) {
  std::vector<std::uint8_t> head(kStatsHeader);
  if (pread(fd, head.data(), head.size(), 0) != static_cast<ssize_t>(head.size())) return false;
  head.resize(bytes_of_stats_head(head));
  if (pread(fd, head.data(), head.size(), 0) != static_cast<ssize_t>(head.size())) return false;
  std::vector<Stat> all;
  if (!parse_stats_head(head, all)) return false;
  for (Stat& stat : all) {
    // By name: which number a counter has differs from kernel to kernel.
    const std::uint64_t feature = remote::feature_of("stat " + stat.name);
    if (is_of_mmu(stat)) stats.push_back({std::move(stat), feature});
  }
  return !stats.empty();
}

void MmuStats::open_file(int of, std::vector<Watched>& stats) {
  File file{ioctl(of, KVM_GET_STATS_FD, 0), &stats, {}};
  if (file.fd < 0) return;
  if (stats.empty() && !learn(file.fd, stats)) {
    close(file.fd);
    return;
  }
  read_values(file, file.before);
  files_.push_back(std::move(file));
}

// All of it at once: a read each would cost more than the program's steps.
void MmuStats::read_values(const File& file, std::vector<std::uint64_t>& values) {
  std::uint32_t begin = ~0u, end = 0;
  for (const Watched& w : *file.stats) {
    begin = std::min(begin, w.stat.offset);
    end = std::max<std::uint32_t>(end, w.stat.offset + 8);
  }
  std::vector<std::uint8_t> bytes(end - begin);
  values.assign(file.stats->size(), 0);
  if (pread(file.fd, bytes.data(), bytes.size(), begin) != static_cast<ssize_t>(bytes.size()))
    return;
  for (std::size_t i = 0; i < values.size(); ++i)
    std::memcpy(&values[i], bytes.data() + ((*file.stats)[i].stat.offset - begin), 8);
}

void MmuStats::program_begins(int vm, std::span<const int> vcpus) {
  close_files();
  open_file(vm, of_vm_);
  for (const int vcpu : vcpus) open_file(vcpu, of_vcpu_);
}

// By orders of magnitude, as the map has counts of tracepoints.
void MmuStats::program_ended() {
  for (const File& file : files_) {
    read_values(file, after_);
    for (std::size_t i = 0; i < after_.size(); ++i) {
      const Watched& watched = (*file.stats)[i];
      const bool grows = watched.stat.kind != Stat::Kind::kNow;
      const std::uint64_t value = grows ? after_[i] - file.before[i] : after_[i];
      if (value != 0) map_.meet(remote::feature_of(watched.feature, std::bit_width(value)));
    }
  }
  close_files();
}

void MmuStats::close_files() {
  for (const File& file : files_) close(file.fd);
  files_.clear();
}

}  // namespace twinwalk::agent
