#ifndef TWINWALK_KVM_RUNNER_NESTED_NESTED_HISTORY_H_
#define TWINWALK_KVM_RUNNER_NESTED_NESTED_HISTORY_H_

// Nested tables as a run shows them. For telling deviations of KVMs; nothing is judged by it.

#include <cstdint>
#include <set>

#include "kvm_runner/memory_history.h"

namespace twinwalk::kvm {

class NestedHistory {
 public:
  // All that was before step `index`, and its walk.
  NestedHistory(const Program& program, const OutcomeStream& outcomes, std::uint32_t index);

  // Whether the guest-physical address leads that vCPU's guest to a nested table that some walk has
  // gone through: one that KVM shadows, and so write-protects.
  bool is_nested_table(unsigned vcpu, std::uint64_t gpa) const;

 private:
  void note_walk(const Op& op);

  MemoryHistory memory_;
  std::set<std::uint64_t> tables_;  // pages
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_NESTED_NESTED_HISTORY_H_
