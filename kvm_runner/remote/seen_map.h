#ifndef TWINWALK_KVM_RUNNER_REMOTE_SEEN_MAP_H_
#define TWINWALK_KVM_RUNNER_REMOTE_SEEN_MAP_H_

// What programs reach in a hypervisor, as features that are counted in a small fixed map: the far
// end tells of each program only what no program before it had reached, so that it costs the line
// next to nothing.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace twinwalk::remote {

// A feature's slot, and in which orders of magnitude it was newly met: bit 0 once, then 2, 3, 4-7,
// 8-15, 16-31, 32-127, 128 times and more in one program.
struct Seen {
  std::uint16_t slot = 0;
  std::uint8_t bits = 0;
  friend bool operator==(const Seen&, const Seen&) = default;
};

class SeenMap {
 public:
  static constexpr std::size_t kSlots = 1 << 14;

  // The program that runs meets the feature once more.
  void meet(std::uint64_t feature);
  // The program is over: what it was the first to reach, as bytes for read_seen().
  std::string take_news();
  // The program is over, and nobody asks.
  void forget();

 private:
  std::vector<std::uint8_t> counts_ = std::vector<std::uint8_t>(kSlots);  // of this program
  std::vector<std::uint8_t> known_ = std::vector<std::uint8_t>(kSlots);   // bits, of all of them
  std::vector<std::uint16_t> touched_;                                    // slots of this program
};

// Appends to `out`; false if that is no text of take_news(): what came before still counts.
bool read_seen(std::span<const std::uint8_t> bytes, std::vector<Seen>& out);

// Features are hashes: FNV-1a of a name, and more words mixed in.
constexpr std::uint64_t feature_of(std::string_view name) {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  return hash;
}
constexpr std::uint64_t feature_of(std::uint64_t feature, std::uint64_t word) {
  std::uint64_t z = feature ^ (word * 0x9E37'79B9'7F4A'7C15u + (feature << 6) + (feature >> 2));
  z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9u;
  z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EBu;
  return z ^ (z >> 31);
}

}  // namespace twinwalk::remote

#endif  // TWINWALK_KVM_RUNNER_REMOTE_SEEN_MAP_H_
