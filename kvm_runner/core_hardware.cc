#include "kvm_runner/core_hardware.h"

#include <cstring>

#include "kvm_runner/backing.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

void CoreHardware::reset_host() {
  arena_.reset();
  lender_.reset();
  failures_.reset();
  broken_ = image_valid_ = false;
}

SkipReason CoreHardware::why_not(const Op& op) const {
  if (broken_) return SkipReason::kSubjectStopped;
  const SkipReason reason = why_not_core(op);
  if (reason != SkipReason::kNone) return reason;
  switch (op.verb) {
    case Verb::kHugeSplit:  // these belong to the simulated host
    case Verb::kHugeCollapse:
      return SkipReason::kHostLacksFeature;
    default:
      return SkipReason::kNone;
  }
}

bool CoreHardware::Memory::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  const SlotView* slot = subject_.slots_[space_].find(gpa);
  if (slot == nullptr) return false;
  word = subject_.arena_.word(slot->hva_of(gpa) - kHvaBase);
  return true;
}

// ---- the host's memory

bool CoreHardware::backs(std::uint64_t hva, std::uint64_t pages) const {
  return hva >= kHvaBase && pages <= Backing::kSpan / kPage &&
         hva - kHvaBase <= Backing::kSpan - pages * kPage;
}

bool CoreHardware::is_protected(std::uint64_t hva) const {
  return arena_.is_shared(hva - kHvaBase);
}

void CoreHardware::break_cow(std::uint64_t hva) { arena_.move_frame(hva - kHvaBase); }

bool CoreHardware::poke(std::uint64_t hva, unsigned size, std::uint64_t value) {
  const std::uint64_t hpa = arena_.frame_of(hva - kHvaBase);
  if (hpa == 0) {
    broken_ = true;
    return false;
  }
  std::memcpy(arena_.frame_at(hpa + hva % kPage), &value, size);
  return true;
}

void CoreHardware::invalidate(std::uint64_t hva, std::uint64_t pages) {
  for (std::uint64_t i = 0; i < pages; ++i) arena_.discard(hva - kHvaBase + i * kPage);
}

void CoreHardware::remap(std::uint64_t hva, std::uint64_t pages) {
  for (std::uint64_t i = 0; i < pages; ++i) arena_.move_frame(hva - kHvaBase + i * kPage);
}

void CoreHardware::protect(std::uint64_t hva, std::uint64_t pages, bool writable) {
  for (std::uint64_t i = 0; i < pages; ++i) arena_.share(hva - kHvaBase + i * kPage, !writable);
}

// ---- mmu::Platform

// Whatever the reach: the hardware here stays in IA-32e mode, where CR3 has 64 bits.
bool CoreHardware::alloc_table(mmu::TableReach, mmu::Hpa& hpa, mmu::u64*& ptr) {
  std::uint64_t at = 0;
  if (failures_.next_fails()) return false;
  ptr = arena_.alloc_table(at);
  hpa = mmu::Hpa{at};
  return ptr != nullptr;
}

void CoreHardware::free_table(mmu::Hpa hpa) {
  if (!arena_.free_table(hpa.raw)) panic("free_table of something that is no live table");
}

void* CoreHardware::alloc_object(mmu::u64 size) { return arena_.alloc_object(size); }

void CoreHardware::free_object(void* object, mmu::u64 size) {
  if (!arena_.free_object(object, size))
    panic("free_object of something that is no live object of that size");
}

mmu::u64 CoreHardware::read_guest(mmu::Hpa hpa, unsigned size) {
  mmu::u64 value = 0;
  if (!arena_.is_guest(hpa.raw, size)) {
    complaints_.add(Complaint::kEscape, "the core read a frame that is not the guest's");
    return 0;
  }
  std::memcpy(&value, arena_.frame_at(hpa.raw), size);
  return value;
}

void CoreHardware::write_guest(mmu::Hpa hpa, unsigned size, mmu::u64 value) {
  if (!arena_.is_guest(hpa.raw, size))
    return complaints_.add(Complaint::kEscape, "the core wrote a frame that is not the guest's");
  std::memcpy(arena_.frame_at(hpa.raw), &value, size);
}

bool CoreHardware::cmpxchg_guest(mmu::Hpa hpa, unsigned size, mmu::u64 expected, mmu::u64 desired) {
  if (read_guest(hpa, size) != expected) return false;
  write_guest(hpa, size, desired);
  return true;
}

mmu::FrameLookup CoreHardware::lookup_frame(mmu::Hva hva, bool write) {
  mmu::FrameLookup found;
  if (!backs(hva.raw & ~(kPage - 1), 1)) return found;
  if (write) steps().break_cow(hva.raw);
  const std::uint64_t hpa = arena_.frame_of(hva.raw - kHvaBase);
  if (hpa == 0) return found;
  found.kind = mmu::FrameLookup::Kind::kFrame;
  found.pfn = mmu::Pfn{hpa / kPage};
  found.writable = !is_protected(hva.raw);
  return found;
}

}  // namespace twinwalk::kvm
