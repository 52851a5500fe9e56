#ifndef TWINWALK_KVM_RUNNER_NESTED_NESTED_TABLES_H_
#define TWINWALK_KVM_RUNNER_NESTED_NESTED_TABLES_H_

// The nested tables of a hypervisor in the VM, as they are in its memory, and its guest's memory as
// they show it. APM 2 §"Nested Paging".

#include <cstdint>

#include "kvm_runner/guest_memory.h"

namespace twinwalk::kvm {

// What a walk from nCR3 meets, without any judgement about rights or reserved bits.
struct NestedWalk {
  Path path;
  bool complete = false;      // reached a frame
  std::uint64_t gpa = 0;      // if complete: where the byte at ngpa is
  std::uint64_t seen = 0;     // OR of all present entries
  std::uint64_t common = 0;   // AND of all entries
  bool large_1g = false;      // its leaf is a PDPTE
  bool meets_runner = false;  // an entry of the runner's on the way, or no way for such an address
};

struct NestedRoot {
  std::uint64_t address = 0;  // nCR3
  unsigned levels = 4;        // or 5
};
NestedWalk walk_nested(const WordReader& memory, const NestedRoot& root, std::uint64_t ngpa);

// Whether the page at gpa may be a table of that nested root: one that `npt-map` takes, or the
// root.
bool may_be_nested_table(std::uint64_t gpa, std::uint64_t nested_root);

// The guest's memory, by ngpa.
class NestedMemory final : public WordReader {
 public:
  // `memory`: the hypervisor's.
  NestedMemory(const WordReader& memory, const NestedRoot& root) : memory_(memory), root_(root) {}
  bool read_word(std::uint64_t ngpa, std::uint64_t& word) const override;
  bool is_trace_word(std::uint64_t ngpa) const override;
  // OR of all present nested entries that reads have met.
  std::uint64_t seen() const { return seen_; }
  bool large_1g() const { return large_1g_; }

 private:
  const WordReader& memory_;
  const NestedRoot root_;
  mutable std::uint64_t seen_ = 0;
  mutable bool large_1g_ = false;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_NESTED_NESTED_TABLES_H_
