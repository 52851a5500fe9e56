#include "kvm_runner/remote/seen_map.h"

#include <algorithm>

namespace twinwalk::remote {
namespace {

constexpr std::uint8_t kMostCount = 255;
constexpr std::size_t kBytesEach = 3;  // slot, low byte first, and bits

std::uint8_t magnitude(std::uint8_t count) {
  constexpr std::uint8_t kLeast[] = {2, 3, 4, 8, 16, 32, 128};
  const auto* const above = std::upper_bound(std::begin(kLeast), std::end(kLeast), count);
  return static_cast<std::uint8_t>(1u << (above - std::begin(kLeast)));
}

}  // namespace

void SeenMap::meet(std::uint64_t feature) {
  const auto slot = static_cast<std::uint16_t>(feature % kSlots);
  std::uint8_t& count = counts_[slot];
  if (count == 0) touched_.push_back(slot);
  if (count != kMostCount) ++count;
}

std::string SeenMap::take_news() {
  std::string news;
  std::sort(touched_.begin(), touched_.end());
  for (const std::uint16_t slot : touched_) {
    const std::uint8_t bit = magnitude(counts_[slot]);
    if ((known_[slot] & bit) != 0) continue;
    known_[slot] |= bit;
    for (const unsigned byte : {slot & 0xffu, unsigned{slot} >> 8, unsigned{bit}})
      news += static_cast<char>(byte);
  }
  forget();
  return news;
}

void SeenMap::forget() {
  for (const std::uint16_t slot : touched_) counts_[slot] = 0;
  touched_.clear();
}

bool read_seen(std::span<const std::uint8_t> bytes, std::vector<Seen>& out) {
  for (std::size_t at = 0; at < bytes.size(); at += kBytesEach) {
    if (bytes.size() - at < kBytesEach) return false;
    const unsigned slot = bytes[at] | unsigned{bytes[at + 1]} << 8;
    if (slot >= SeenMap::kSlots || bytes[at + 2] == 0) return false;
    out.push_back({static_cast<std::uint16_t>(slot), bytes[at + 2]});
  }
  return true;
}

}  // namespace twinwalk::remote
