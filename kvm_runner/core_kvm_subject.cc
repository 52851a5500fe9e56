#include "kvm_runner/core_kvm_subject.h"

#include <algorithm>
#include <cstring>

#include "kvm_runner/backing.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::kvm {
namespace {

// The processor runs 64-bit stubs: guests in the other modes hang below its root, too.
constexpr std::uint8_t kLeastLevels = 4;

}  // namespace

bool CoreKvmSubject::open(std::string& why) {
  if (!host_.open(why) || !arena_.open(why)) return false;
  if ((host_.features() & feature::kNx) == 0) return why = "the host offers no NX", false;
  info_ = {"core-kvm", "in-tree core on " + host_.version(), Profile::kKvm, true, {}};
  return true;
}

SkipReason CoreKvmSubject::prepare(const Machine& machine) {
  vm_.reset();
  arena_.reset();
  lender_.reset();
  failures_.reset();
  broken_ = image_valid_ = false;
  if (machine.core != Dimension::kShadow) return SkipReason::kModeNotSupported;
  if (machine.nested != Nesting::kNone) return SkipReason::kNestedNotSupported;
  // The host is what it is, and not what the trace says.
  machine_.host_levels = std::max(machine.host_levels, kLeastLevels);
  machine_.host_maxphyaddr =
      static_cast<std::uint8_t>(std::min<unsigned>(machine.host_maxphyaddr, host_.maxphyaddr()));
  image_valid_ = machine.maxphyaddr <= host_.maxphyaddr() &&
                 (machine_.host_levels <= kLeastLevels || has_host(feature::kLa57)) &&
                 open_vm(machine_);
  return image_valid_ ? SkipReason::kNone : SkipReason::kHostLacksFeature;
}

// Its processor: everything that the host has, MAXPHYADDR as the core believes, WP and NXE on.
bool CoreKvmSubject::open_vm(const Machine& machine) {
  Machine processor = machine;
  processor.mode = Mode::k4Level;
  processor.vendor = host_.vendor();  // the guest's vendor is the core's affair
  processor.maxphyaddr = machine.host_maxphyaddr;
  processor.features = host_.features();
  Registers registers;
  registers.cr3 = CoreArena::kArenaBase;
  registers.cr4 = kCr4;
  std::string why;
  vm_ = Vm::create(host_, processor, registers, why);
  loaded_ = {};
  return vm_ &&
         vm_->set_slot(0, CoreArena::kArenaBase, CoreArena::kArenaBytes, arena_.memory(), 0) == 0;
}

void CoreKvmSubject::after_run(bool trapped) {
  vm_.reset();
  if (trapped || broken_) image_valid_ = false;
}

SkipReason CoreKvmSubject::why_not(const Op& op) const {
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

bool CoreKvmSubject::Memory::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  const SlotView* slot = subject_.slots_[space_].find(gpa);
  if (slot == nullptr) return false;
  word = subject_.arena_.word(slot->hva_of(gpa) - kHvaBase);
  return true;
}

// ---- the host's memory

bool CoreKvmSubject::backs(std::uint64_t hva, std::uint64_t pages) const {
  return hva >= kHvaBase && pages <= Backing::kSpan / kPage &&
         hva - kHvaBase <= Backing::kSpan - pages * kPage;
}

bool CoreKvmSubject::is_protected(std::uint64_t hva) const {
  return arena_.is_shared(hva - kHvaBase);
}

void CoreKvmSubject::break_cow(std::uint64_t hva) { arena_.move_frame(hva - kHvaBase); }

bool CoreKvmSubject::poke(std::uint64_t hva, unsigned size, std::uint64_t value) {
  const std::uint64_t hpa = arena_.frame_of(hva - kHvaBase);
  if (hpa == 0) {
    broken_ = true;
    return false;
  }
  std::memcpy(arena_.frame_at(hpa + hva % kPage), &value, size);
  return true;
}

void CoreKvmSubject::invalidate(std::uint64_t hva, std::uint64_t pages) {
  for (std::uint64_t i = 0; i < pages; ++i) arena_.discard(hva - kHvaBase + i * kPage);
}

void CoreKvmSubject::remap(std::uint64_t hva, std::uint64_t pages) {
  for (std::uint64_t i = 0; i < pages; ++i) arena_.move_frame(hva - kHvaBase + i * kPage);
}

void CoreKvmSubject::protect(std::uint64_t hva, std::uint64_t pages, bool writable) {
  for (std::uint64_t i = 0; i < pages; ++i) arena_.share(hva - kHvaBase + i * kPage, !writable);
}

// ---- mmu::Platform

// Whatever the reach: the hardware here stays in IA-32e mode, where CR3 has 64 bits.
bool CoreKvmSubject::alloc_table(mmu::TableReach, mmu::Hpa& hpa, mmu::u64*& ptr) {
  std::uint64_t at = 0;
  if (failures_.next_fails()) return false;
  ptr = arena_.alloc_table(at);
  hpa = mmu::Hpa{at};
  return ptr != nullptr;
}

void CoreKvmSubject::free_table(mmu::Hpa hpa) {
  if (!arena_.free_table(hpa.raw)) panic("free_table of something that is no live table");
}

void* CoreKvmSubject::alloc_object(mmu::u64 size) { return arena_.alloc_object(size); }

void CoreKvmSubject::free_object(void* object, mmu::u64 size) {
  if (!arena_.free_object(object, size))
    panic("free_object of something that is no live object of that size");
}

mmu::u64 CoreKvmSubject::read_guest(mmu::Hpa hpa, unsigned size) {
  mmu::u64 value = 0;
  if (!arena_.is_guest(hpa.raw, size)) {
    complaints_.add(Complaint::kEscape, "the core read a frame that is not the guest's");
    return 0;
  }
  std::memcpy(&value, arena_.frame_at(hpa.raw), size);
  return value;
}

void CoreKvmSubject::write_guest(mmu::Hpa hpa, unsigned size, mmu::u64 value) {
  if (!arena_.is_guest(hpa.raw, size))
    return complaints_.add(Complaint::kEscape, "the core wrote a frame that is not the guest's");
  std::memcpy(arena_.frame_at(hpa.raw), &value, size);
}

bool CoreKvmSubject::cmpxchg_guest(mmu::Hpa hpa, unsigned size, mmu::u64 expected,
                                   mmu::u64 desired) {
  if (read_guest(hpa, size) != expected) return false;
  write_guest(hpa, size, desired);
  return true;
}

mmu::FrameLookup CoreKvmSubject::lookup_frame(mmu::Hva hva, bool write) {
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

void CoreKvmSubject::flush_tlb(const mmu::FlushRequest& request) {
  (void)request;
  vm_->zap_translations();
  for (Loaded& l : loaded_) l.cr3 = 0;  // the next entry flushes before it runs
}

}  // namespace twinwalk::kvm

namespace twinwalk {

std::unique_ptr<Subject> make_core_kvm_subject(std::string& why) {
  auto subject = std::make_unique<kvm::CoreKvmSubject>();
  if (!subject->open(why)) return nullptr;
  return subject;
}

}  // namespace twinwalk
