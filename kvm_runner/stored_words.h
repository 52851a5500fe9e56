#ifndef TWINWALK_KVM_RUNNER_STORED_WORDS_H_
#define TWINWALK_KVM_RUNNER_STORED_WORDS_H_

// Memory of a trace as stores have left it: what is known of it once a run is over.

#include <cstdint>
#include <map>
#include <vector>

#include "kvm_runner/followed_slots.h"

namespace twinwalk::kvm {

class StoredWords {
 public:
  explicit StoredWords(const Machine& machine) : slots_(machine) {}

  // Memslots that come, move and go; without that there is the one that the trace begins with.
  void follow(const Op& op, const Outcome& outcome) { slots_.follow(op, outcome); }
  void store(std::uint64_t gpa, unsigned size, std::uint64_t value);
  // Zeroes, where nothing is stored later, in hva space.
  void clear(std::uint64_t offset, std::uint64_t bytes);
  // Names the word that holds the byte, whatever gpa it is asked for by; kUnknownGpa: no memory.
  std::uint64_t name_of(std::uint64_t gpa) const {
    return slots_.offset_of(gpa & ~std::uint64_t{7});
  }
  // The 8-byte word there: what was stored, the seed, or zero where there is no memory.
  std::uint64_t word(std::uint64_t gpa) const;

 private:
  struct Range {
    std::uint64_t first, bytes;
  };
  FollowedSlots slots_;
  std::vector<Range> cleared_;
  std::map<std::uint64_t, std::uint64_t> words_;  // by name_of()
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_STORED_WORDS_H_
