#include "kvm_runner/core_hardware.h"

#include <algorithm>
#include <cstring>

#include "kvm_runner/backing.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {

void CoreHardware::reset_host(const Machine& machine) {
  arena_.reset(machine.host_page_level > 1);
  lender_.reset();
  failures_.reset();
  broken_ = image_valid_ = false;
}

// The host is what it is, and not what the trace says.
bool CoreHardware::fit_maxphyaddr(const Machine& machine, unsigned own) {
  narrower_host_ = machine.host_maxphyaddr > own;
  machine_.host_maxphyaddr =
      static_cast<std::uint8_t>(std::min<unsigned>(machine.host_maxphyaddr, own));
  return machine.maxphyaddr <= own;
}

SkipReason CoreHardware::why_not(const Op& op) const {
  if (broken_) return SkipReason::kSubjectStopped;
  const SkipReason reason = why_not_core(op);
  if (reason != SkipReason::kNone) return reason;
  switch (op.verb) {
    case Verb::kCpuid:  // the core refuses what its host has not
      return narrower_host_ && op.value > machine_.host_maxphyaddr ? SkipReason::kHostLacksFeature
                                                                   : SkipReason::kNone;
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

// Pages of a region that the range has all of are one to the host: at_region(offset); the others
// are not: at_page(offset).
template <class AtPage, class AtRegion>
void CoreHardware::by_region(std::uint64_t hva, std::uint64_t pages, AtPage at_page,
                             AtRegion at_region) {
  constexpr std::uint64_t kRegion = std::uint64_t{2} << 20;
  std::uint64_t at = hva - kHvaBase;
  for (const std::uint64_t end = at + pages * kPage; at < end;) {
    const bool whole = at % kRegion == 0 && end - at >= kRegion;
    if (whole) {
      at_region(at);
    } else {
      at_page(at);
    }
    at += whole ? kRegion : kPage;
  }
}

void CoreHardware::invalidate(std::uint64_t hva, std::uint64_t pages) {
  by_region(
      hva, pages, [this](std::uint64_t at) { arena_.discard(at); },
      [this](std::uint64_t at) { arena_.discard_region(at); });
}

void CoreHardware::remap(std::uint64_t hva, std::uint64_t pages) {
  by_region(
      hva, pages, [this](std::uint64_t at) { arena_.move_frame(at); },
      [this](std::uint64_t at) { arena_.move_region(at); });
}

// A huge page has one protection.
void CoreHardware::protect(std::uint64_t hva, std::uint64_t pages, bool writable) {
  by_region(
      hva, pages,
      [&](std::uint64_t at) {
        arena_.huge_split(at);
        arena_.share(at, !writable);
      },
      [&](std::uint64_t at) {
        for (unsigned i = 0; i < 512; ++i) arena_.share(at + i * kPage, !writable);
      });
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
  const CoreArena::Backed backed = arena_.backing_of(hva.raw - kHvaBase);
  if (backed.hpa == 0) return found;
  found.kind = mmu::FrameLookup::Kind::kFrame;
  found.pfn = mmu::Pfn{backed.hpa / kPage};
  found.writable = !backed.shared;
  found.host_level = backed.huge ? 2 : 1;
  return found;
}

}  // namespace twinwalk::kvm
