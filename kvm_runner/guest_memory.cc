#include "kvm_runner/guest_memory.h"

#include <algorithm>

#include "harness/trace/content.h"
#include "kvm_runner/backing.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {
namespace {

// The same memory to a processor in PAE mode: the four PDPTEs are those that it has latched, which
// the walk finds where kLatchedCr3 points.
class LatchedPdptes final : public WordReader {
 public:
  static constexpr std::uint64_t kLatchedCr3 = 0xffff'ffe0;

  LatchedPdptes(const WordReader& memory, const std::uint64_t (&pdpte)[4])
      : memory_(memory), pdpte_(pdpte) {}
  bool read_word(std::uint64_t gpa, std::uint64_t& word) const override {
    if (gpa - kLatchedCr3 >= 32) return memory_.read_word(gpa, word);
    word = pdpte_[(gpa - kLatchedCr3) / 8];
    return true;
  }
  bool is_trace_word(std::uint64_t gpa) const override { return memory_.is_trace_word(gpa); }

 private:
  const WordReader& memory_;
  const std::uint64_t (&pdpte_)[4];
};

}  // namespace

void SlotTable::reset(const Machine& machine) {
  slots_ = {};
  limit_ = bit(machine.maxphyaddr);
  slots_[0] = {true, false, false, 0, machine.memory_bytes(), 0};
}

const Slot* SlotTable::find(std::uint64_t gpa) const {
  for (const Slot& slot : slots_) {
    if (slot.live && slot.holds(gpa)) return &slot;
  }
  return nullptr;
}

std::uint64_t SlotTable::gpa_of(std::uint64_t offset) const {
  const auto shows = [offset](const Slot& s) { return s.live && offset - s.offset < s.bytes; };
  const auto* const slot = std::find_if(slots_.begin(), slots_.end(), shows);
  return slot != slots_.end() ? slot->gpa + (offset - slot->offset) : kUnknownGpa;
}

bool SlotTable::fits(std::uint64_t id, std::uint64_t gpa, std::uint64_t bytes) const {
  if (gpa % kPage != 0 || gpa > limit_ || bytes > limit_ - gpa) return false;
  for (std::uint64_t i = 0; i < kMaxSlots; ++i) {
    const Slot& s = slots_[i];
    if (i != id && s.live && gpa < s.gpa + s.bytes && s.gpa < gpa + bytes) return false;
  }
  return true;
}

bool SlotTable::may_add(const Op& op) const {
  if (op.slot >= kMaxSlots || slots_[op.slot].live) return false;
  if (op.pages == 0 || op.pages > Backing::kSpan / kPage) return false;
  const std::uint64_t bytes = op.pages * kPage;
  if (op.hva % kPage != 0 || op.hva < kHvaBase || op.hva - kHvaBase > Backing::kSpan - bytes)
    return false;
  return fits(op.slot, op.gpa, bytes);
}

std::uint64_t root_of(const Registers& r) {
  switch (mode_of(r.cr0, r.cr4, r.efer)) {
    case Mode::k32Bit:
      return r.cr3 & kShape32Bit.root;
    case Mode::kPae:
      return r.cr3 & kShapePae.root;
    default:
      return r.cr3 & kShape4Level.root;
  }
}

GuestWalk walk(const WordReader& memory, const Registers& registers, std::uint64_t gva) {
  GuestWalk out;
  unsigned met = 0;
  auto read = [&](std::uint64_t at, unsigned bytes, std::uint64_t& entry) {
    std::uint64_t word = 0;
    if (!memory.read_word(at & ~std::uint64_t{7}, word)) return false;
    entry = extract(word, at & 7, bytes);
    out.at[met++] = at;
    out.meets_runner |= !memory.is_trace_word(at & ~std::uint64_t{7});
    return true;
  };
  out.gpa = walk_guest_tables(registers, gva, read, out.path);
  out.complete = out.gpa != kUnknownGpa;
  for (unsigned i = 0; i < out.path.count; ++i) {
    if ((out.path.entry[i] & pte::kP) != 0) out.entries_seen |= out.path.entry[i];
  }
  const Mode mode = mode_of(registers.cr0, registers.cr4, registers.efer);
  const unsigned levels = mode == Mode::k5Level ? 5 : mode == Mode::k4Level ? 4 : 0;
  out.large_1g = out.complete && levels != 0 && out.path.count == levels - 2;
  return out;
}

GuestWalk walk_latched(const WordReader& memory, Registers registers,
                       const std::uint64_t (&pdpte)[4], std::uint64_t gva) {
  registers.cr3 = LatchedPdptes::kLatchedCr3;
  return walk(LatchedPdptes(memory, pdpte), registers, gva);
}

}  // namespace twinwalk::kvm
