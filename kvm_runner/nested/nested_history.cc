#include "kvm_runner/nested/nested_history.h"

#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

NestedHistory::NestedHistory(const Program& program, const OutcomeStream& outcomes,
                             std::uint32_t index)
    : memory_(program.machine) {
  const Machine& machine = program.machine;
  if (machine.core != Dimension::kBare || machine.nested != Nesting::kNpt) return;
  for (std::uint32_t i = 0; i <= index; ++i) {
    const Op& op = program.steps[i].what;
    if (op.verb == Verb::kAccess && op.vcpu < machine.vcpus) note_walk(op);
    if (i < index) memory_.replay(op, outcomes.steps[i]);
  }
}

void NestedHistory::note_walk(const Op& op) {
  for (const std::uint64_t gva : {op.gva, op.gva + op.size - 1}) {
    memory_.each_shadowed(op.vcpu, gva, [this](std::uint64_t at) { tables_.insert(at / kPage); });
  }
}

bool NestedHistory::is_nested_table(unsigned vcpu, std::uint64_t gpa) const {
  const std::uint64_t place = memory_.place_of(vcpu, gpa);
  return place != kUnknownGpa && tables_.count(place / kPage) != 0;
}

}  // namespace twinwalk::kvm
