#ifndef TWINWALK_KVM_RUNNER_MEMORY_HISTORY_H_
#define TWINWALK_KVM_RUNNER_MEMORY_HISTORY_H_

// Memory and registers as the steps of a run leave them, one step after the other. For telling
// deviations of KVMs; nothing is judged by it.

#include <array>
#include <cstdint>

#include "harness/subject.h"
#include "harness/trace/followed_registers.h"
#include "kvm_runner/guest_memory.h"
#include "kvm_runner/nested/nested_tables.h"
#include "kvm_runner/stored_words.h"

namespace twinwalk::kvm {

class MemoryHistory final : public WordReader {
 public:
  explicit MemoryHistory(const Machine& machine);

  // Stores, with those of the walks that outcomes show; registers, memslots, VMRUNs.
  void replay(const Op& op, const Outcome& outcome);

  bool read_word(std::uint64_t gpa, std::uint64_t& word) const override;
  // Names the word that holds the byte, whatever gpa it is asked for by.
  std::uint64_t name_of(std::uint64_t gpa) const { return memory_.name_of(gpa); }
  // At most eight bytes that lie in one page.
  std::uint64_t bytes_at(std::uint64_t gpa, unsigned size) const;

  Registers registers(unsigned vcpu) const;
  // By the guest's tables as they are now. On a machine that is a hypervisor the guest is its own
  // guest, whose gpas are no places in memory.
  GuestWalk walk(unsigned vcpu, std::uint64_t gva) const;
  // Where a gpa of that guest's is in memory; kUnknownGpa: nowhere.
  std::uint64_t place_of(unsigned vcpu, std::uint64_t gpa) const;
  // Calls use(gpa) with each entry, of the tables that KVM shadows, that a walk for gva meets: the
  // guest's, or the nested ones.
  template <class Use>
  void each_shadowed(unsigned vcpu, std::uint64_t gva, Use use) const;

 private:
  template <class Use>
  class Reading final : public WordReader {
   public:
    Reading(const WordReader& memory, Use& use) : memory_(memory), use_(use) {}
    bool read_word(std::uint64_t gpa, std::uint64_t& word) const override {
      use_(gpa);
      return memory_.read_word(gpa, word);
    }

   private:
    const WordReader& memory_;
    Use& use_;
  };

  bool nested() const;
  NestedRoot root(unsigned vcpu) const { return {root_[vcpu], machine_.host_levels}; }
  void replay_access(const Op& op, const Outcome& outcome);
  std::uint64_t replay_path(unsigned vcpu, std::uint64_t gva, const Path& shown);

  const Machine& machine_;
  StoredWords memory_;
  std::array<FollowedRegisters, kMaxVcpus> registers_;
  std::array<std::uint64_t, kMaxVcpus> root_{};  // nCR3
};

template <class Use>
void MemoryHistory::each_shadowed(unsigned vcpu, std::uint64_t gva, Use use) const {
  const GuestWalk w = walk(vcpu, gva);
  const Reading reading(*this, use);
  for (unsigned i = 0; i < w.path.count; ++i) {
    if (nested()) {
      walk_nested(reading, root(vcpu), w.at[i]);
    } else {
      use(w.at[i]);
    }
  }
  if (nested() && w.complete) walk_nested(reading, root(vcpu), w.gpa);
}

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_MEMORY_HISTORY_H_
