#include "kvm_runner/nested/nested_history.h"

#include <algorithm>

#include "kvm_runner/layout.h"
#include "kvm_runner/nested/nested_tables.h"

namespace twinwalk::kvm {

NestedHistory::NestedHistory(const Program& program, const OutcomeStream& outcomes,
                             std::uint32_t index)
    : machine_(program.machine), memory_(program.machine) {
  for (std::uint32_t i = 0; i < index; ++i) replay(program.steps[i].what, outcomes.steps[i]);
}

void NestedHistory::replay(const Op& op, const Outcome& outcome) {
  if (op.vcpu >= machine_.vcpus) return;
  if (op.verb == Verb::kVmEnter && outcome.kind == OutcomeKind::kDone) root_[op.vcpu] = op.value;
  if (op.verb == Verb::kWrite && outcome.kind == OutcomeKind::kDone)
    memory_.store(op.gpa, static_cast<unsigned>(op.size), op.value);
  const bool rmw = op.access() == AccessKind::kRmw;
  const bool stores = op.verb == Verb::kAccess && (rmw || op.access() == AccessKind::kWrite);
  if (!stores || outcome.kind != OutcomeKind::kOk) return;
  const std::uint64_t value = rmw ? outcome.value + op.value : op.value;
  const auto first =
      static_cast<unsigned>(std::min<std::uint64_t>(op.size, kPage - op.gva % kPage));
  if (outcome.gpa[0] != kUnknownGpa) memory_.store(outcome.gpa[0], first, value);
  if (first < op.size && outcome.gpa[1] != kUnknownGpa)
    memory_.store(outcome.gpa[1], static_cast<unsigned>(op.size) - first, value >> (8 * first));
}

bool NestedHistory::is_nested_table(unsigned vcpu, std::uint64_t gpa) const {
  if (machine_.core != Dimension::kBare || machine_.nested != Nesting::kNpt) return false;
  const NestedWalk walk = walk_nested(*this, {root_[vcpu], machine_.host_levels}, gpa);
  return walk.complete && may_be_nested_table(walk.gpa, root_[vcpu]);
}

bool NestedHistory::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  word = memory_.word(gpa & ~std::uint64_t{7});
  return gpa < machine_.memory_bytes();
}

}  // namespace twinwalk::kvm
