#include "kvm_runner/batch_rules.h"

#include <algorithm>

namespace twinwalk::kvm {
namespace {

// A value that every processor takes. SDM 3A §"Control Registers".
bool is_accepted(const Op& op, const Machine& machine, const Registers& now) {
  switch (op.reg()) {
    case Reg::kCpl:
    case Reg::kAc:
      return true;  // of the harness
    case Reg::kCr3: {
      const bool tags = (now.cr4 & cr4::kPcide) != 0;
      return (tags ? op.value & ~cr3::kNoFlush : op.value) >> machine.maxphyaddr == 0;
    }
    default:  // the host has to see first whether they are
      return false;
  }
}

}  // namespace

bool may_be_batched(const Op& op, const Machine& machine, const Registers& now) {
  if (is_legacy(now) || op.vcpu >= machine.vcpus || op.point != Point::kNone) return false;
  switch (op.verb) {
    case Verb::kAccess:
      return op.access() != AccessKind::kFetch;
    case Verb::kWrite:  // what crosses a page needs a window of its own
      return op.writer() == Writer::kGuest && (op.gpa & (kPage - 1)) + op.size <= kPage;
    case Verb::kMov:
      return is_accepted(op, machine, now);
    case Verb::kGet:
      return op.reg() != Reg::kCpl && op.reg() != Reg::kAc;
    case Verb::kInvlpg:
    case Verb::kInvpcid:
      return true;
    default:
      return false;
  }
}

ForetoldMemory::Word& ForetoldMemory::word(std::uint64_t offset) {
  offset &= ~std::uint64_t{7};
  const auto [at, is_new] = words_.try_emplace(offset);
  if (is_new) at->second.value = memory_.trace_word(offset);
  return at->second;
}

void ForetoldMemory::will_store(std::uint64_t offset, unsigned size, std::uint64_t value) {
  for (unsigned i = 0; i < size; ++i) {
    std::uint64_t& to = word(offset + i).value;
    const unsigned shift = 8 * ((offset + i) & 7);
    to = (to & ~(std::uint64_t{0xff} << shift)) | (value >> (8 * i) & 0xff) << shift;
  }
}

void ForetoldMemory::may_store(std::uint64_t offset, unsigned size) {
  word(offset).known = word(offset + size - 1).known = false;
}

bool ForetoldMemory::knows(std::uint64_t offset) const {
  const auto at = words_.find(offset & ~std::uint64_t{7});
  return at == words_.end() || at->second.known;
}

bool ForetoldMemory::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  std::uint64_t offset = 0;
  if (!memory_.offset_of(gpa, offset)) return false;
  const auto at = words_.find(offset);
  word = at != words_.end() ? at->second.value : memory_.trace_word(offset);
  return true;
}

bool ForetoldMemory::knows(const GuestWalk& walk) const {
  return std::all_of(walk.at, walk.at + walk.path.count, [&](std::uint64_t gpa) {
    std::uint64_t offset = 0;
    return !memory_.offset_of(gpa, offset) || knows(offset);
  });
}

}  // namespace twinwalk::kvm
