#include "kvm_runner/memory_history.h"

#include <algorithm>

#include "harness/trace/content.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/replayed_registers.h"

namespace twinwalk::kvm {

MemoryHistory::MemoryHistory(const Machine& machine) : machine_(machine), memory_(machine) {
  for (FollowedRegisters& registers : registers_) registers.reset(machine_);
}

bool MemoryHistory::nested() const {
  return machine_.core == Dimension::kBare && machine_.nested == Nesting::kNpt;
}

Registers MemoryHistory::registers(unsigned vcpu) const { return registers_of(registers_[vcpu]); }

void MemoryHistory::replay(const Op& op, const Outcome& outcome) {
  if (op.vcpu >= machine_.vcpus || outcome.kind == OutcomeKind::kSkip) return;
  memory_.follow(op, outcome);
  if (op.verb == Verb::kAccess) return replay_access(op, outcome);
  if (outcome.kind != OutcomeKind::kDone) return;
  switch (op.verb) {
    case Verb::kWrite:
      return memory_.store(op.gpa, static_cast<unsigned>(op.size), op.value);
    case Verb::kInvalidate:
      return memory_.clear(op.hva - kHvaBase, op.pages * kPage);
    case Verb::kVmEnter:
      root_[op.vcpu] = op.value;
      return;
    default:
      return kvm::replay(op, machine_, registers_[op.vcpu]);
  }
}

// What the walk met, with the A and D that it has set, and the store. One whose landing is not told
// is taken to have gone where its path leads.
void MemoryHistory::replay_access(const Op& op, const Outcome& outcome) {
  std::uint64_t landed[] = {replay_path(op.vcpu, op.gva, outcome.path[0]),
                            replay_path(op.vcpu, op.gva + op.size - 1, outcome.path[1])};
  const bool rmw = op.access() == AccessKind::kRmw;
  if ((!rmw && op.access() != AccessKind::kWrite) || outcome.kind != OutcomeKind::kOk) return;
  for (unsigned half = 0; half < 2; ++half)
    if (outcome.gpa[half] != kUnknownGpa) landed[half] = outcome.gpa[half];
  const std::uint64_t value = rmw ? outcome.value + op.value : op.value;
  const auto first =
      static_cast<unsigned>(std::min<std::uint64_t>(op.size, kPage - op.gva % kPage));
  if (landed[0] != kUnknownGpa) memory_.store(landed[0], first, value);
  if (first < op.size && landed[1] != kUnknownGpa)
    memory_.store(landed[1] & ~(kPage - 1), static_cast<unsigned>(op.size) - first,
                  value >> (8 * first));
}

// Returns where that path leads, if all of it is shown.
std::uint64_t MemoryHistory::replay_path(unsigned vcpu, std::uint64_t gva, const Path& shown) {
  unsigned next = 0;
  auto read = [&](std::uint64_t at, unsigned bytes, std::uint64_t& entry) {
    if (next == shown.count) return false;
    entry = shown.entry[next++];
    const std::uint64_t place = place_of(vcpu, at);
    if (place != kUnknownGpa) memory_.store(place, bytes, entry);
    return true;
  };
  Path path;
  if (shown.count == 0) return kUnknownGpa;
  const std::uint64_t gpa = walk_guest_tables(registers(vcpu), gva, read, path);
  return gpa == kUnknownGpa ? gpa : place_of(vcpu, gpa);
}

bool MemoryHistory::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  word = memory_.word(gpa & ~std::uint64_t{7});
  return memory_.name_of(gpa) != kUnknownGpa;
}

std::uint64_t MemoryHistory::bytes_at(std::uint64_t gpa, unsigned size) const {
  const auto offset = static_cast<unsigned>(gpa & 7), first = std::min(size, 8 - offset);
  const std::uint64_t low = extract(memory_.word(gpa & ~std::uint64_t{7}), offset, first);
  if (first == size) return low;
  return low | extract(memory_.word(gpa + first), 0, size - first) << (8 * first);
}

GuestWalk MemoryHistory::walk(unsigned vcpu, std::uint64_t gva) const {
  if (!nested()) return kvm::walk(*this, registers(vcpu), gva);
  return kvm::walk(NestedMemory(*this, root(vcpu)), registers(vcpu), gva);
}

std::uint64_t MemoryHistory::place_of(unsigned vcpu, std::uint64_t gpa) const {
  if (!nested()) return gpa;
  const NestedWalk walk = walk_nested(*this, root(vcpu), gpa);
  return walk.complete ? walk.gpa : kUnknownGpa;
}

}  // namespace twinwalk::kvm
