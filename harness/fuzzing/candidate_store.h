#ifndef TWINWALK_HARNESS_FUZZING_CANDIDATE_STORE_H_
#define TWINWALK_HARNESS_FUZZING_CANDIDATE_STORE_H_

// Where workers leave traces that diverged. A candidate is a file CLASS-HASH.walkb, in
// the binary file form, written atomically at once; the driver minimises and deduplicates later.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "harness/trace/op.h"
#include "harness/trace/verdict.h"

namespace twinwalk::fuzz {

inline constexpr std::string_view kCandidateSuffix = ".walkb";

class CandidateStore {
 public:
  // `folder` exists. An empty name: nothing is kept.
  explicit CandidateStore(std::string folder);

  enum class Kept : std::uint8_t { kWritten, kEnough, kFailed };
  // Keeps the trace, unless the class has had enough: per identity (`identity` tells findings of
  // one class apart) the first two, then those whose number is a power of two; at most kPerClass
  // files a class.
  Kept keep(const Trace& trace, DivergenceClass divergence, std::uint64_t identity);
  // Why the last keep() failed.
  const std::string& error() const { return error_; }

  static constexpr unsigned kPerClass = 48;

 private:
  struct Seen {
    std::uint64_t identity, times;
  };
  std::string folder_, error_;
  std::array<std::vector<Seen>, static_cast<std::size_t>(DivergenceClass::kCount)> seen_;
  std::array<unsigned, static_cast<std::size_t>(DivergenceClass::kCount)> files_{};
  std::vector<std::uint8_t> bytes_;
};

// Candidates in the folder, sorted by name: whole files only.
std::vector<std::string> list_candidates(const std::string& folder);

// A hash of bytes that is the same everywhere (FNV-1a, finished).
std::uint64_t hash_bytes(std::span<const std::uint8_t> bytes);
inline std::uint64_t hash_bytes(std::string_view text) {
  return hash_bytes({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}
std::string hex8(std::uint64_t hash);  // its upper 32 bits, 8 digits

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_HARNESS_FUZZING_CANDIDATE_STORE_H_
