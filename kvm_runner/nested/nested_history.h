#ifndef TWINWALK_KVM_RUNNER_NESTED_NESTED_HISTORY_H_
#define TWINWALK_KVM_RUNNER_NESTED_NESTED_HISTORY_H_

// Nested tables as a run shows them: by its stores, and by the VMRUNs that were taken. For telling
// deviations of KVMs; nothing is judged by it.

#include <array>
#include <cstdint>

#include "harness/subject.h"
#include "kvm_runner/guest_memory.h"
#include "kvm_runner/stored_words.h"

namespace twinwalk::kvm {

class NestedHistory final : public WordReader {
 public:
  // All that was before step `index`.
  NestedHistory(const Program& program, const OutcomeStream& outcomes, std::uint32_t index);

  // Whether the guest-physical address leads that vCPU's guest to a page of nested tables.
  bool is_nested_table(unsigned vcpu, std::uint64_t gpa) const;

  bool read_word(std::uint64_t gpa, std::uint64_t& word) const override;

 private:
  void replay(const Op& op, const Outcome& outcome);

  const Machine& machine_;
  StoredWords memory_;
  std::array<std::uint64_t, kMaxVcpus> root_{};
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_NESTED_NESTED_HISTORY_H_
