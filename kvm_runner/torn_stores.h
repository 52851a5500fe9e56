#ifndef TWINWALK_KVM_RUNNER_TORN_STORES_H_
#define TWINWALK_KVM_RUNNER_TORN_STORES_H_

// Stores that crossed into a page where they had a fault, as a run shows them. For telling
// deviations of KVMs; nothing is judged by it.

#include <cstdint>
#include <set>

#include "kvm_runner/memory_history.h"

namespace twinwalk::kvm {

class TornStores {
 public:
  // All up to step `last`, itself as well.
  TornStores(const Program& program, const OutcomeStream& outcomes, std::uint32_t last);

  // Such a store began in the word at `gpa`, which is in a table that KVM shadows, and some walk
  // has gone through.
  bool met_table_word(std::uint64_t gpa) const;
  // And the walk of step `last` meets one of those.
  bool met_on_the_way() const;

 private:
  void note_walk(const MemoryHistory& memory, const Op& op, bool is_last);

  std::set<std::uint64_t> words_;       // gpas
  std::set<std::uint64_t> tables_;      // pages
  std::set<std::uint64_t> on_the_way_;  // words of the last step's walk
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_TORN_STORES_H_
