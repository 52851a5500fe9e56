#include "harness/fuzzing/candidate_store.h"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <utility>

#include "harness/fuzzing/atomic_file.h"
#include "harness/trace/binary.h"

namespace twinwalk::fuzz {

std::uint64_t hash_bytes(std::span<const std::uint8_t> bytes) {
  std::uint64_t h = 0xcbf2'9ce4'8422'2325u;
  for (std::uint8_t b : bytes) h = (h ^ b) * 0x100'0000'01b3u;
  h ^= h >> 32;
  return h * 0x9E37'79B9'7F4A'7C15u;
}

std::string hex8(std::uint64_t hash) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out(8, '0');
  for (std::size_t i = 0; i < 8; ++i) out[i] = kDigits[hash >> (60 - 4 * i) & 15];
  return out;
}

CandidateStore::CandidateStore(std::string folder) : folder_(std::move(folder)) {}

CandidateStore::Kept CandidateStore::keep(const Trace& trace, DivergenceClass divergence,
                                          std::uint64_t identity) {
  if (folder_.empty()) return Kept::kEnough;
  const auto cls = static_cast<std::size_t>(divergence);
  auto& seen = seen_[cls];
  auto at =
      std::find_if(seen.begin(), seen.end(), [&](const Seen& s) { return s.identity == identity; });
  if (at == seen.end()) {
    seen.push_back({identity, 0});
    at = seen.end() - 1;
  }
  if (!std::has_single_bit(++at->times)) return Kept::kEnough;  // 1, 2, 4, ...
  if (files_[cls] >= kPerClass) return Kept::kEnough;
  encode(trace, bytes_);
  const std::string name = std::string(name_of(divergence)) + '-' + hex8(hash_bytes(bytes_));
  error_ = write_atomically(folder_ + '/' + name + std::string(kCandidateSuffix), bytes_);
  if (!error_.empty()) return Kept::kFailed;
  ++files_[cls];
  return Kept::kWritten;
}

std::vector<std::string> list_candidates(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() > kCandidateSuffix.size() && name.ends_with(kCandidateSuffix))
      out.push_back(entry.path().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace twinwalk::fuzz
