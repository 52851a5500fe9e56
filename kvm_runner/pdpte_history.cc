#include "kvm_runner/pdpte_history.h"

#include <algorithm>
#include <utility>

#include "harness/trace/content.h"
#include "harness/trace/guest_tables.h"
#include "kvm_runner/replayed_registers.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

bool writes_control_register(const Op& op) {
  return op.verb == Verb::kMov &&
         (op.reg() == Reg::kCr0 || op.reg() == Reg::kCr3 || op.reg() == Reg::kCr4);
}

FollowedRegisters after(FollowedRegisters registers, const Op& op, const Machine& machine) {
  replay(op, machine, registers);
  return registers;
}

// SDM 3A §"PDPTE Registers": writes in PAE mode that load them.
bool loads(const Op& op, const FollowedRegisters& before, const FollowedRegisters& now) {
  constexpr std::uint64_t kCr0Bits = cr0::kPg | cr0::kCd | cr0::kNw,
                          kCr4Bits = cr4::kPae | cr4::kPge | cr4::kPse | cr4::kSmep;
  if (now.mode() != Mode::kPae) return false;
  if (op.verb == Verb::kSregs || op.reg() == Reg::kCr3) return true;
  return ((before.cr0() ^ now.cr0()) & kCr0Bits) != 0 ||
         ((before.cr4() ^ now.cr4()) & kCr4Bits) != 0;
}

}  // namespace

PdpteHistory::PdpteHistory(const Program& program, const OutcomeStream& outcomes,
                           std::uint32_t index)
    : machine_(program.machine), memory_(program.machine) {
  for (FollowedRegisters& registers : registers_) registers.reset(machine_);
  for (unsigned v = 0; v < machine_.vcpus; ++v) load(v);
  for (std::uint32_t i = 0; i < index; ++i) replay(program.steps[i].what, outcomes.steps[i]);
}

void PdpteHistory::replay(const Op& op, const Outcome& outcome) {
  if (op.vcpu >= machine_.vcpus || outcome.kind == OutcomeKind::kSkip) return;
  memory_.follow(op, outcome);
  const bool done = outcome.kind == OutcomeKind::kDone;
  switch (op.verb) {
    case Verb::kMov:
    case Verb::kSregs:
    case Verb::kInit:
      return replay_register(op, outcome);
    case Verb::kNewVcpu:
      if (done) registers_[op.vcpu].reset(machine_), load(op.vcpu), refused_[op.vcpu] = 0;
      return;
    case Verb::kWrite:
      if (done) store(op.gpa, static_cast<unsigned>(op.size), op.value), end_trail(op.gpa, op.size);
      return;
    case Verb::kInvalidate:
      if (done) clear_pages(op);
      return;
    case Verb::kAccess:
      return replay_access(op, outcome);
    default:
      return;
  }
}

void PdpteHistory::replay_register(const Op& op, const Outcome& outcome) {
  const unsigned one = writes_control_register(op) ? 1u << static_cast<unsigned>(op.reg()) : 0u;
  if (outcome.kind != OutcomeKind::kDone) {
    if (outcome.kind == OutcomeKind::kGp && finds_reserved(op)) refused_[op.vcpu] |= one;
    return;
  }
  const FollowedRegisters before = registers_[op.vcpu];
  registers_[op.vcpu] = after(before, op, machine_);
  if (loads(op, before, registers_[op.vcpu])) {
    load(op.vcpu);
  } else if (op.verb == Verb::kMov && op.reg() == Reg::kCr0) {
    at_cr0_[op.vcpu] = in_memory(registers_[op.vcpu]);
  }
  refused_[op.vcpu] &= op.verb == Verb::kMov ? ~one : 0u;
}

// What the walk met, with the A and D that it has set, and the store.
void PdpteHistory::replay_access(const Op& op, const Outcome& outcome) {
  const Registers registers = registers_of(registers_[op.vcpu]);
  const bool such =
      refused_before(op.vcpu) || goes_by_reserved(op, outcome) || goes_by_changed(op, outcome);
  if (such) leave_trail(op, outcome);
  std::uint64_t landed[] = {replay_path(registers, op.gva, outcome.path[0]),
                            replay_path(registers, op.gva + op.size - 1, outcome.path[1])};
  const bool rmw = op.access() == AccessKind::kRmw;
  if ((!rmw && op.access() != AccessKind::kWrite) || outcome.kind != OutcomeKind::kOk) return;
  const std::uint64_t value = rmw ? outcome.value + op.value : op.value;
  const auto room = kPageBytes - (op.gva & (kPageBytes - 1));
  const auto first = static_cast<unsigned>(std::min<std::uint64_t>(op.size, room));
  // A store that changed nothing that is looked at is taken to have gone where its path leads.
  for (unsigned half = 0; half < 2; ++half)
    if (outcome.gpa[half] != kUnknownGpa) landed[half] = outcome.gpa[half];
  if (landed[0] != kUnknownGpa) store(landed[0], first, value);
  if (!such && landed[0] != kUnknownGpa) end_trail(landed[0], first);
  if (first < op.size && landed[1] != kUnknownGpa)
    store(landed[1] & ~(kPageBytes - 1), static_cast<unsigned>(op.size) - first,
          value >> (8 * first));
}

// Where the store landed, and what a walk by the PDPTEs that were loaded meets.
void PdpteHistory::leave_trail(const Op& op, const Outcome& outcome) {
  const bool stores = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
  for (const std::uint64_t gpa : outcome.gpa) {
    if (stores && gpa != kUnknownGpa) stored_trail_.insert({word_of(gpa), word_of(gpa + 7)});
  }
  const std::uint64_t root = registers_[op.vcpu].root();
  bool first = false;  // the one that is a register; the root may be a directory, too
  auto read = [&](std::uint64_t at, unsigned bytes, std::uint64_t& entry) {
    if (std::exchange(first, false)) {
      entry = loaded_[op.vcpu][(at - root) / 8];
      return true;
    }
    walked_trail_.insert(word_of(at));
    entry = extract(word(at & ~std::uint64_t{7}), at & 7, bytes);
    if ((entry & pte::kP) != 0) store(at, bytes, entry | pte::kA);  // be it a PDPTE to others
    return true;
  };
  for (const std::uint64_t gva : {op.gva, op.gva + op.size - 1}) {
    Path path;
    first = registers_[op.vcpu].mode() == Mode::kPae;
    walk_guest_tables(registers_of(registers_[op.vcpu]), gva, read, path);
  }
}

// A whole word is what it is now, whatever it was before.
void PdpteHistory::end_trail(std::uint64_t gpa, std::uint64_t size) {
  if (size != 8 || gpa % 8 != 0) return;
  stored_trail_.erase(word_of(gpa));
  walked_trail_.erase(word_of(gpa));
}

std::uint64_t PdpteHistory::replay_path(const Registers& registers, std::uint64_t gva,
                                        const Path& shown) {
  unsigned next = 0;
  auto read = [&](std::uint64_t at, unsigned bytes, std::uint64_t& entry) {
    if (next == shown.count) return false;
    entry = shown.entry[next++];
    const bool is_root =
        next == 1 && mode_of(registers.cr0, registers.cr4, registers.efer) == Mode::kPae;
    const bool walked =
        walked_.count(word_of(at)) != 0 || (entry & ~word(at & ~std::uint64_t{7}) & pte::kA) != 0;
    store(at, bytes, entry);
    if (is_root && walked) walked_.insert(word_of(at));
    return true;
  };
  Path path;
  return shown.count != 0 ? walk_guest_tables(registers, gva, read, path) : kUnknownGpa;
}

void PdpteHistory::store(std::uint64_t gpa, unsigned size, std::uint64_t value) {
  memory_.store(gpa, size, value);
  const std::uint64_t last = (gpa + size - 1) & ~std::uint64_t{7};
  for (std::uint64_t at = gpa & ~std::uint64_t{7}; at <= last; at += 8) walked_.erase(word_of(at));
}

void PdpteHistory::clear_pages(const Op& invalidate) {
  memory_.clear(invalidate.hva - kHvaBase, invalidate.pages * kPageBytes);
}

// The PDPTE without an A that a walk, and no store, has set.
std::uint64_t PdpteHistory::as_stored(std::uint64_t gpa, std::uint64_t pdpte) const {
  const bool walked = walked_.count(word_of(gpa)) != 0 || (word(gpa) & pte::kA) == 0;
  return walked ? pdpte & ~pte::kA : pdpte;
}

PdpteHistory::Pdptes PdpteHistory::in_memory(const FollowedRegisters& registers) const {
  Pdptes pdptes{};
  for (unsigned i = 0; i < pdptes.size(); ++i) pdptes[i] = word(registers.root() + 8 * i);
  return pdptes;
}

// SDM 3A §"PDPTE Registers": if one of them is reserved, none is loaded.
void PdpteHistory::load(unsigned vcpu) {
  const Pdptes pdptes = in_memory(registers_[vcpu]);
  const auto reserved = [this](std::uint64_t pdpte) { return is_reserved(pdpte); };
  if (std::none_of(pdptes.begin(), pdptes.end(), reserved)) loaded_[vcpu] = pdptes;
  at_cr0_[vcpu] = loaded_[vcpu];
}

// SDM 3A §"PDPTE Registers", table "Format of a PAE Page-Directory-Pointer-Table Entry".
bool PdpteHistory::is_reserved(std::uint64_t pdpte) const {
  const std::uint64_t low = 0x1e6, high = ~(bit(machine_.maxphyaddr) - 1);
  return (pdpte & pte::kP) != 0 && (pdpte & (low | high)) != 0;
}

bool PdpteHistory::finds_reserved(const Op& op) const {
  if (op.verb != Verb::kSregs && !writes_control_register(op)) return false;
  const FollowedRegisters wanted = after(registers_[op.vcpu], op, machine_);
  if (wanted.mode() != Mode::kPae) return false;
  for (const std::uint64_t pdpte : in_memory(wanted)) {
    if (is_reserved(pdpte)) return true;
  }
  return false;
}

// A store of at most eight bytes that landed there met the word.
bool PdpteHistory::stored_in(std::uint64_t landed, std::uint64_t at) const {
  if (landed == kUnknownGpa) return false;
  return word_of(landed) == word_of(at) || word_of(landed + 7) == word_of(at);
}

template <class Use>
bool PdpteHistory::any_used(const Op& op, const Outcome& outcome, Use use) const {
  if (op.verb != Verb::kAccess || registers_[op.vcpu].mode() != Mode::kPae) return false;
  const Pdptes now = in_memory(registers_[op.vcpu]);
  const unsigned halves = (op.gva & (kPageBytes - 1)) + op.size > kPageBytes ? 2 : 1;
  for (unsigned half = 0; half < halves; ++half) {
    const unsigned index = (half == 0 ? op.gva : op.gva + op.size - 1) >> 30 & 3;
    const Path& shown = outcome.path[half];
    // The path is as the access left it, and that may be its own store.
    const std::uint64_t at = registers_[op.vcpu].root() + 8 * index;
    const bool own = (op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw) &&
                     (stored_in(outcome.gpa[0], at) || stored_in(outcome.gpa[1], at));
    if (use(index, shown.count != 0 && !own ? shown.entry[0] : now[index])) return true;
  }
  return false;
}

bool PdpteHistory::goes_by_reserved(const Op& op, const Outcome& outcome) const {
  const std::uint64_t root = registers_[op.vcpu].root();
  return any_used(op, outcome, [&](unsigned index, std::uint64_t pdpte) {
    return is_reserved(as_stored(root + 8 * index, pdpte));
  });
}

bool PdpteHistory::goes_by_walked(const Op& op, const Outcome& outcome) const {
  const std::uint64_t root = registers_[op.vcpu].root();
  return any_used(op, outcome, [&](unsigned index, std::uint64_t pdpte) {
    return as_stored(root + 8 * index, pdpte) != pdpte;
  });
}

bool PdpteHistory::goes_by_changed(const Op& op, const Outcome& outcome) const {
  return any_used(op, outcome, [&](unsigned index, std::uint64_t pdpte) {
    return pdpte != loaded_[op.vcpu][index];
  });
}

bool PdpteHistory::differs_at_cr0(const Op& op, const Outcome& outcome) const {
  return any_used(op, outcome, [&](unsigned index, std::uint64_t) {
    return at_cr0_[op.vcpu][index] != loaded_[op.vcpu][index];
  });
}

bool PdpteHistory::is_pdpte(unsigned vcpu, std::uint64_t gpa) const {
  if (registers_[vcpu].mode() != Mode::kPae) return false;
  for (unsigned i = 0; i < 4; ++i)
    if (word_of(gpa) == word_of(registers_[vcpu].root() + 8 * i)) return true;
  return false;
}

}  // namespace twinwalk::kvm
