#include "kvm_runner/former_ways.h"

#include <array>
#include <set>

#include "kvm_runner/layout.h"
#include "kvm_runner/memory_history.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kPresentPs = pte::kP | pte::kPs;

const Op& op_of(const FormerWays& f, std::uint32_t i) { return f.program.steps[i].what; }

bool is_access(const FormerWays& f, std::uint32_t i) {
  return op_of(f, i).verb == Verb::kAccess && op_of(f, i).vcpu < f.program.machine.vcpus;
}

// The walks of both ends of an access.
std::array<GuestWalk, 2> walks(const MemoryHistory& memory, const Op& op) {
  return {memory.walk(op.vcpu, op.gva), memory.walk(op.vcpu, op.gva + op.size - 1)};
}

MemoryHistory memory_before(const FormerWays& f, std::uint32_t index) {
  MemoryHistory memory(f.program.machine);
  for (std::uint32_t i = 0; i < index; ++i) memory.replay(op_of(f, i), f.outcomes.steps[i]);
  return memory;
}

bool is_32_bit(const Registers& r) { return mode_of(r.cr0, r.cr4, r.efer) == Mode::k32Bit; }

// Where the step stored in one page, and is told to have; kUnknownGpa if nowhere.
std::uint64_t stored_at(const Op& op, const Outcome& outcome) {
  if (op.verb == Verb::kWrite && outcome.kind == OutcomeKind::kDone) return op.gpa;
  const bool stores = op.access() == AccessKind::kWrite || op.access() == AccessKind::kRmw;
  const bool stored = op.verb == Verb::kAccess && stores && outcome.kind == OutcomeKind::kOk;
  return stored && outcome.gpa[1] == kUnknownGpa ? outcome.gpa[0] : kUnknownGpa;
}

bool crosses(const Op& op) { return op.gva / kPage != (op.gva + op.size - 1) / kPage; }

}  // namespace

bool FormerWays::goes_by_ps() const {
  const MemoryHistory now = memory_before(*this, index);
  if (!is_access(*this, index) || !is_32_bit(now.registers(op_of(*this, index).vcpu))) return false;
  for (const GuestWalk& own : walks(now, op_of(*this, index))) {
    if (own.path.count == 0) continue;
    const std::uint64_t at = own.at[0];
    const auto has_ps = [at](const MemoryHistory& memory) {
      return (memory.bytes_at(at, 4) & kPresentPs) == kPresentPs;
    };
    MemoryHistory memory(program.machine);
    bool went = false;
    for (std::uint32_t i = 0; i < index; ++i) {
      const Op& op = op_of(*this, i);
      if (is_access(*this, i) && is_32_bit(memory.registers(op.vcpu)) && has_ps(memory)) {
        for (const GuestWalk& other : walks(memory, op))
          went = went || (other.path.count != 0 && other.at[0] == at);
      }
      const bool by_host = op.verb == Verb::kWrite && op.writer() == Writer::kHost;
      const std::uint64_t before = memory.bytes_at(at, 4);
      memory.replay(op, outcomes.steps[i]);
      if (!by_host && memory.bytes_at(at, 4) != before) went = went && has_ps(memory);
    }
    if (went || has_ps(now)) return true;
  }
  return false;
}

bool FormerWays::goes_by_walked_xd() const {
  MemoryHistory memory(program.machine);
  std::set<std::uint64_t> walked;  // names of words
  for (std::uint32_t i = 0; i <= index; ++i) {
    const Op& op = op_of(*this, i);
    const bool nxe = (memory.registers(op.vcpu).efer & efer::kNxe) != 0;
    if (is_access(*this, i) && (i == index || nxe)) {
      for (const GuestWalk& w : walks(memory, op)) {
        for (unsigned step = 0; step < w.path.count; ++step) {
          if ((w.path.entry[step] & (pte::kP | pte::kXd)) != (pte::kP | pte::kXd)) continue;
          const std::uint64_t name = memory.name_of(w.at[step]);
          if (i < index) walked.insert(name);
          if (i == index && walked.count(name) != 0) return true;
        }
      }
    }
    if (i < index) memory.replay(op, outcomes.steps[i]);
  }
  return false;
}

bool FormerWays::goes_by_straddled() const {
  MemoryHistory memory(program.machine);
  std::set<std::uint64_t> straddled;  // names of words
  for (std::uint32_t i = 0; i < index; ++i) {
    const Op& op = op_of(*this, i);
    const std::uint64_t gpa = stored_at(op, outcomes.steps[i]);
    memory.replay(op, outcomes.steps[i]);
    if (gpa == kUnknownGpa) continue;
    straddled.erase(memory.name_of(gpa));
    straddled.erase(memory.name_of(gpa + op.size - 1));
    const bool by_host = op.verb == Verb::kWrite && op.writer() == Writer::kHost;
    if (!by_host && op.size == 4 && gpa % 8 > 4) straddled.insert(memory.name_of(gpa + 3));
  }
  if (!is_access(*this, index) || is_32_bit(memory.registers(op_of(*this, index).vcpu)))
    return false;
  for (const GuestWalk& w : walks(memory, op_of(*this, index))) {
    for (unsigned step = 0; step < w.path.count; ++step)
      if (straddled.count(memory.name_of(w.at[step])) != 0) return true;
  }
  return false;
}

bool FormerWays::loads_by_way_of(std::uint32_t former) const {
  const Op &op = op_of(*this, index), &earlier = op_of(*this, former);
  if (!is_access(*this, index) || !is_access(*this, former) || crosses(op)) return false;
  const MemoryHistory then = memory_before(*this, former);
  const GuestWalk way = then.walk(earlier.vcpu, earlier.gva);
  std::uint64_t landed = outcomes.steps[former].gpa[0];
  if (landed == kUnknownGpa && way.complete) landed = then.place_of(earlier.vcpu, way.gpa);
  if (landed == kUnknownGpa) return false;
  const std::uint64_t at = (landed & ~(kPage - 1)) + op.gva % kPage;
  const auto size = static_cast<unsigned>(op.size);
  return memory_before(*this, index).bytes_at(at, size) == outcomes.steps[index].value;
}

bool FormerWays::is_of_device_rmw(std::uint64_t gpa) const {
  MemoryHistory memory(program.machine);
  for (std::uint32_t i = 0; i <= index; ++i) {
    const Op& op = op_of(*this, i);
    const bool device = outcomes.steps[i].kind == OutcomeKind::kMmio;
    if (is_access(*this, i) && op.access() == AccessKind::kRmw && device) {
      for (const GuestWalk& w : walks(memory, op)) {
        if (w.complete && memory.name_of(gpa) != kUnknownGpa &&
            memory.name_of(memory.place_of(op.vcpu, w.gpa)) == memory.name_of(gpa))
          return true;
      }
    }
    memory.replay(op, outcomes.steps[i]);
  }
  return false;
}

bool FormerWays::is_own_leaf(std::uint64_t gpa) const {
  const Op& op = op_of(*this, index);
  if (!is_access(*this, index)) return false;
  const MemoryHistory memory = memory_before(*this, index);
  for (const GuestWalk& w : walks(memory, op)) {
    if (!w.complete || w.path.count == 0) continue;
    const std::uint64_t leaf = memory.place_of(op.vcpu, w.at[w.path.count - 1]);
    if (memory.name_of(leaf) == memory.name_of(gpa)) return true;
  }
  return false;
}

}  // namespace twinwalk::kvm
