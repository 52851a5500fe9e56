#include "kvm_runner/guest_memory.h"

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

GuestWalk walk(const WordReader& memory, std::uint64_t cr3, std::uint64_t gva) {
  GuestWalk out;
  std::uint64_t table = cr3 & pte::kAddressMask;
  for (unsigned level = 4; level >= 1; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const std::uint64_t at = table + (gva >> shift & 511) * 8;
    std::uint64_t entry = 0;
    if (!memory.read_word(at, entry)) return out;
    out.path.entry[out.path.count++] = entry;
    out.meets_runner |= !memory.is_trace_word(at);
    if ((entry & pte::kP) == 0) return out;
    out.entries_seen |= entry;
    const std::uint64_t page_mask = (std::uint64_t{1} << shift) - 1;
    const bool large = (level == 2 || level == 3) && (entry & pte::kPs) != 0;
    out.large_1g |= large && level == 3;
    if (level == 1 || large) {
      out.complete = true;
      out.gpa = (entry & pte::kAddressMask & ~page_mask) | (gva & page_mask);
      return out;
    }
    table = entry & pte::kAddressMask;
  }
  return out;
}

}  // namespace twinwalk::kvm
