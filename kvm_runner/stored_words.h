#ifndef TWINWALK_KVM_RUNNER_STORED_WORDS_H_
#define TWINWALK_KVM_RUNNER_STORED_WORDS_H_

// Memory slot 0 of a trace as stores have left it: what is known of it once a run is over.

#include <cstdint>
#include <map>
#include <vector>

#include "harness/trace/machine.h"

namespace twinwalk::kvm {

class StoredWords {
 public:
  explicit StoredWords(const Machine& machine) : bytes_(machine.memory_bytes()) {}

  void store(std::uint64_t gpa, unsigned size, std::uint64_t value);
  // Zeroes, where nothing is stored later.
  void clear(std::uint64_t gpa, std::uint64_t bytes);
  // The 8-byte word there: what was stored, the seed, or zero where there is no memory.
  std::uint64_t word(std::uint64_t gpa) const;

 private:
  struct Range {
    std::uint64_t first, bytes;
  };
  std::uint64_t bytes_;
  std::vector<Range> cleared_;
  std::map<std::uint64_t, std::uint64_t> words_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_STORED_WORDS_H_
