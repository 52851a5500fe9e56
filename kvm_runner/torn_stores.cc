#include "kvm_runner/torn_stores.h"

#include <algorithm>

#include "kvm_runner/layout.h"

namespace twinwalk::kvm {
namespace {

// The walk asks for something in the page at that gpa of the guest's.
bool asks_for(const GuestWalk& walk, std::uint64_t gpa) {
  const auto same = [gpa](std::uint64_t at) { return at / kPage == gpa / kPage; };
  return (walk.complete && same(walk.gpa)) || std::any_of(walk.at, walk.at + walk.path.count, same);
}

bool is_torn(const MemoryHistory& memory, const Op& op, const Outcome& outcome) {
  const bool stores = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
  const std::uint64_t last = op.gva + op.size - 1;
  if (!stores || op.gva / kPage == last / kPage) return false;
  if (outcome.kind == OutcomeKind::kPageFault) return outcome.cr2 / kPage == last / kPage;
  return outcome.kind == OutcomeKind::kNestedFault &&
         asks_for(memory.walk(op.vcpu, last), outcome.gpa[0]) &&
         !asks_for(memory.walk(op.vcpu, op.gva), outcome.gpa[0]);
}

}  // namespace

// A torn store may have hit its own walk: what is walked is memory as it was before each step.
TornStores::TornStores(const Program& program, const OutcomeStream& outcomes, std::uint32_t last) {
  MemoryHistory memory(program.machine);
  for (std::uint32_t i = 0; i <= last; ++i) {
    const Op& op = program.steps[i].what;
    const Outcome& outcome = outcomes.steps[i];
    if (op.verb == Verb::kAccess && op.vcpu < program.machine.vcpus &&
        outcome.kind != OutcomeKind::kSkip) {
      note_walk(memory, op, i == last);
      const GuestWalk first = memory.walk(op.vcpu, op.gva);
      if (first.complete && is_torn(memory, op, outcome))
        words_.insert(memory.place_of(op.vcpu, first.gpa) & ~std::uint64_t{7});
    }
    memory.replay(op, outcome);
  }
}

void TornStores::note_walk(const MemoryHistory& memory, const Op& op, bool is_last) {
  for (const std::uint64_t gva : {op.gva, op.gva + op.size - 1}) {
    memory.each_shadowed(op.vcpu, gva, [&](std::uint64_t at) {
      tables_.insert(at / kPage);
      if (is_last) on_the_way_.insert(at & ~std::uint64_t{7});
    });
  }
}

bool TornStores::met_table_word(std::uint64_t gpa) const {
  return words_.count(gpa & ~std::uint64_t{7}) != 0 && tables_.count(gpa / kPage) != 0;
}

bool TornStores::met_on_the_way() const {
  return std::any_of(on_the_way_.begin(), on_the_way_.end(),
                     [this](std::uint64_t gpa) { return met_table_word(gpa); });
}

}  // namespace twinwalk::kvm
