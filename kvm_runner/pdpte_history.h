#ifndef TWINWALK_KVM_RUNNER_PDPTE_HISTORY_H_
#define TWINWALK_KVM_RUNNER_PDPTE_HISTORY_H_

// PDPTEs of PAE paging as a run shows them: in memory, by the stores and the paths of its outcomes,
// and in a processor that takes them into registers, by the writes to control registers that were
// taken. For telling deviations of KVMs; nothing is judged by it.

#include <array>
#include <cstdint>
#include <set>
#include <string_view>

#include "harness/subject.h"
#include "harness/trace/followed_registers.h"
#include "kvm_runner/stored_words.h"

namespace twinwalk::kvm {

class PdpteHistory {
 public:
  // All that was before step `index`.
  PdpteHistory(const Program& program, const OutcomeStream& outcomes, std::uint32_t index);

  // Some PDPTE that the write of a register, or `sregs`, would have in use is present and has a
  // reserved bit.
  bool finds_reserved(const Op& op) const;
  // A former write of a register of that vCPU was refused where finds_reserved(), and no later one
  // of the same register was taken: the vCPU has other registers than it should.
  bool refused_before(unsigned vcpu) const { return refused_[vcpu] != 0; }
  bool refused_before(unsigned vcpu, Reg reg) const {
    return (refused_[vcpu] >> static_cast<unsigned>(reg) & 1) != 0;
  }
  // Of an access in PAE mode: a PDPTE that it goes by, as its outcome shows it, is present with a
  // reserved bit (other than an A that walks have set there); is another than when PDPTEs were
  // loaded last. SDM 3A §"PDPTE Registers" says which writes load them.
  bool goes_by_reserved(const Op& op, const Outcome& outcome) const;
  bool goes_by_changed(const Op& op, const Outcome& outcome) const;
  // And one has an A that a walk has set there.
  bool goes_by_walked(const Op& op, const Outcome& outcome) const;
  // And one was another in memory than the one that was loaded, when CR0 was written last in a way
  // that loads none.
  bool differs_at_cr0(const Op& op, const Outcome& outcome) const;
  // An earlier access, by a vCPU that any of these is true of, stored to the word; or its walk met
  // it, and may have set A or D there. Until the guest or the host stores another whole word there.
  bool stored_by_such(std::uint64_t gpa) const { return holds(stored_trail_, gpa); }
  bool walked_by_such(std::uint64_t gpa) const { return holds(walked_trail_, gpa); }
  // Whether the 8-byte word at `gpa` is one of the vCPU's PDPTEs.
  bool is_pdpte(unsigned vcpu, std::uint64_t gpa) const;
  // Whether it is a PDPTE in which a walk has set A, and nothing was stored since.
  bool is_walked(std::uint64_t gpa) const { return holds(walked_, gpa); }

 private:
  using Pdptes = std::array<std::uint64_t, 4>;

  void replay(const Op& op, const Outcome& outcome);
  void replay_register(const Op& op, const Outcome& outcome);
  void replay_access(const Op& op, const Outcome& outcome);
  // Returns where that path leads, if all of it is shown.
  std::uint64_t replay_path(const Registers& registers, std::uint64_t gva, const Path& shown);
  void store(std::uint64_t gpa, unsigned size, std::uint64_t value);
  void clear_pages(const Op& invalidate);
  std::uint64_t word(std::uint64_t gpa) const { return memory_.word(gpa); }
  std::uint64_t word_of(std::uint64_t gpa) const { return memory_.name_of(gpa); }
  std::uint64_t as_stored(std::uint64_t gpa, std::uint64_t pdpte) const;
  Pdptes in_memory(const FollowedRegisters& registers) const;
  void load(unsigned vcpu);
  bool is_reserved(std::uint64_t pdpte) const;
  bool stored_in(std::uint64_t landed, std::uint64_t at) const;
  template <class Use>
  bool any_used(const Op& op, const Outcome& outcome, Use use) const;

  const Machine& machine_;
  std::array<FollowedRegisters, kMaxVcpus> registers_;
  std::array<Pdptes, kMaxVcpus> loaded_{};
  std::array<Pdptes, kMaxVcpus>
      at_cr0_{};  // in memory when CR0 was written, if since they were loaded
  std::array<unsigned, kMaxVcpus> refused_{};  // a bit a Reg
  StoredWords memory_;
  void leave_trail(const Op& op, const Outcome& outcome);
  bool holds(const std::set<std::uint64_t>& words, std::uint64_t gpa) const {
    return word_of(gpa) != kUnknownGpa && words.count(word_of(gpa)) != 0;
  }
  void end_trail(std::uint64_t gpa, std::uint64_t size);
  // By word_of():
  std::set<std::uint64_t> stored_trail_, walked_trail_;
  std::set<std::uint64_t> walked_;  // PDPTEs in which a walk has set A
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_PDPTE_HISTORY_H_
