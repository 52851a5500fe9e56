#include "kvm_runner/vmx_image/boot/boot_info.h"

#include <algorithm>
#include <cstring>

namespace twinwalk::vmx {
namespace {

constexpr std::uint32_t kEndTag = 0, kModuleTag = 3, kMemoryTag = 6;
constexpr std::uint32_t kAvailable = 1;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLowMemory = 1 << 20;  // the firmware's

template <class T>
T read(const unsigned char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

std::uint64_t address_of(const unsigned char* at) { return reinterpret_cast<std::uint64_t>(at); }

}  // namespace

BootInfo::BootInfo(const unsigned char* info)
    : info_{address_of(info), address_of(info) + read<std::uint32_t>(info)} {
  const unsigned char* const end = info + read<std::uint32_t>(info);
  for (const unsigned char* tag = info + 8; tag + 8 <= end;) {
    const auto type = read<std::uint32_t>(tag), bytes = read<std::uint32_t>(tag + 4);
    if (type == kEndTag || bytes < 8) return;
    if (type == kModuleTag && modules_ < kMost)
      module_[modules_++] = {read<std::uint32_t>(tag + 8), read<std::uint32_t>(tag + 12)};
    if (type == kMemoryTag) add_memory(tag, bytes);
    tag += (bytes + 7) & ~std::uint32_t{7};
  }
}

void BootInfo::add_memory(const unsigned char* tag, std::uint32_t bytes) {
  const auto entry_bytes = read<std::uint32_t>(tag + 8);
  for (std::uint32_t at = 16; entry_bytes != 0 && at + entry_bytes <= bytes; at += entry_bytes) {
    const auto base = read<std::uint64_t>(tag + at), length = read<std::uint64_t>(tag + at + 8);
    if (read<std::uint32_t>(tag + at + 16) == kAvailable && memories_ < kMost)
      memory_[memories_++] = {base, base + length};
  }
}

// Every free piece begins at the start of a region or behind something that is used.
Span BootInfo::largest_free(Span own, std::uint64_t limit) const {
  Span used[kMost + 3] = {{0, kLowMemory}, own, info_};
  std::size_t count = 3;
  for (std::size_t i = 0; i < modules_; ++i) used[count++] = module_[i];
  Span best;
  const auto consider = [&](std::uint64_t begin, std::uint64_t end) {
    begin = (begin + kPage - 1) & ~(kPage - 1);
    for (std::size_t i = 0; i < count; ++i) {
      if (begin >= used[i].begin && begin < used[i].end) return;  // begins behind that one
      if (used[i].begin >= begin) end = std::min(end, used[i].begin);
    }
    end &= ~(kPage - 1);
    if (begin < end && end - begin > best.bytes()) best = {begin, end};
  };
  for (std::size_t m = 0; m < memories_; ++m) {
    const std::uint64_t end = std::min(memory_[m].end, limit);
    consider(memory_[m].begin, end);
    for (std::size_t i = 0; i < count; ++i) {
      if (used[i].end > memory_[m].begin && used[i].end < end) consider(used[i].end, end);
    }
  }
  return best;
}

}  // namespace twinwalk::vmx
