#include "kvm_runner/guest_memory.h"

#include "harness/trace/content.h"
#include "kvm_runner/backing.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

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
  std::uint64_t gpa = kUnknownGpa;
  for (const Slot& slot : slots_) {
    if (!slot.live || offset - slot.offset >= slot.bytes) continue;
    if (gpa != kUnknownGpa) return kUnknownGpa;
    gpa = slot.gpa + (offset - slot.offset);
  }
  return gpa;
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

GuestWalk walk(const WordReader& memory, const Registers& registers, std::uint64_t gva) {
  GuestWalk out;
  auto read = [&](std::uint64_t at, unsigned bytes, std::uint64_t& entry) {
    std::uint64_t word = 0;
    if (!memory.read_word(at & ~std::uint64_t{7}, word)) return false;
    entry = extract(word, at & 7, bytes);
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

}  // namespace twinwalk::kvm
