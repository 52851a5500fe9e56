#ifndef TWINWALK_KVM_RUNNER_BATCH_RULES_H_
#define TWINWALK_KVM_RUNNER_BATCH_RULES_H_

// Which steps of subject `kvm` may run in the guest one after another, without the host between
// them. Whatever the host looks at before or after a step it must then be able to foretell, or have
// the guest read for it.

#include <cstdint>
#include <map>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"
#include "kvm_runner/trace_memory.h"

namespace twinwalk::kvm {

// By what the step is, with the registers that its vCPU has by then: a step of the guest in IA-32e
// mode that does not leave it, needs no words lent (a fetch does), and whose effect on the
// registers is certain.
bool may_be_batched(const Op& op, const Machine& machine, const Registers& now);

// Guest memory as it will be after the steps that a batch has so far.
class ForetoldMemory final : public WordReader {
 public:
  explicit ForetoldMemory(const TraceMemory& memory) : memory_(memory) {}
  // The batch is over: memory is as it is.
  void clear() { words_.clear(); }

  // A store that will land at `offset` of hva space, whatever happens.
  void will_store(std::uint64_t offset, unsigned size, std::uint64_t value);
  // One that may: nothing is known of the words from now on.
  void may_store(std::uint64_t offset, unsigned size);

  // False where it depends on the course of the batch.
  bool knows(std::uint64_t offset) const;
  // A and D of entries may be set by then.
  bool read_word(std::uint64_t gpa, std::uint64_t& word) const override;
  bool is_trace_word(std::uint64_t gpa) const override { return memory_.is_trace_word(gpa); }
  // Whether the walk met words only that are known.
  bool knows(const GuestWalk& walk) const;

 private:
  struct Word {
    std::uint64_t value = 0;
    bool known = true;
  };
  Word& word(std::uint64_t offset);

  const TraceMemory& memory_;
  std::map<std::uint64_t, Word> words_;  // by offset
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_BATCH_RULES_H_
