#include "kvm_runner/core_kvm_subject.h"

#include <cstring>

#include "kvm_runner/backing.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/step_limits.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::kvm {
namespace {

// What the core does in software, on a host that has none of it.
constexpr std::uint32_t kCoreFeatures = feature::k1G | feature::kPge | feature::kPcid |
                                        feature::kInvpcid | feature::kPse | feature::kPse36 |
                                        feature::kPae;

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
  broken_ = false;
  image_valid_ = machine.core == Dimension::kShadow &&
                 machine.host_maxphyaddr <= host_.maxphyaddr() && open_vm(machine);
  if (!image_valid_) return SkipReason::kHostLacksFeature;
  return why_not_machine(machine);
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
  registers.cr4 = cr4::kPae | cr4::kPge;
  std::string why;
  vm_ = Vm::create(host_, processor, registers, why);
  for (unsigned v = 0; v < machine.vcpus; ++v) loaded_cr3_[v] = loaded_pcid_[v] = 0;
  return vm_ &&
         vm_->set_slot(0, CoreArena::kArenaBase, CoreArena::kArenaBytes, arena_.memory(), 0) == 0;
}

void CoreKvmSubject::after_run(bool trapped) {
  vm_.reset();
  if (trapped || broken_) image_valid_ = false;
}

SkipReason CoreKvmSubject::why_not(const Op& op) const {
  if (broken_) return SkipReason::kSubjectStopped;
  const Registers now = op.vcpu < machine_.vcpus ? registers_of(op) : Registers{};
  const SkipReason reason = kvm::why_not(op, machine_, now, host_.features() | kCoreFeatures);
  if (reason != SkipReason::kNone) return reason;
  switch (op.verb) {
    case Verb::kHugeSplit:  // these belong to the simulated host
    case Verb::kHugeCollapse:
    case Verb::kFailAlloc:
      return SkipReason::kHostLacksFeature;
    case Verb::kAccess:
      return is_out_of_reach(op) ? SkipReason::kHostLacksFeature : SkipReason::kNone;
    default:
      return SkipReason::kNone;
  }
}

bool CoreKvmSubject::read_word(std::uint64_t gpa, std::uint64_t& word) const {
  const SlotView* slot = slots_[0].find(gpa);
  if (slot == nullptr) return false;
  word = arena_.word(slot->hva_of(gpa) - kHvaBase);
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
  for (unsigned v = 0; v < machine_.vcpus; ++v)
    loaded_cr3_[v] = 0;  // the next entry flushes before it runs
}

}  // namespace twinwalk::kvm

namespace twinwalk {

std::unique_ptr<Subject> make_core_kvm_subject(std::string& why) {
  auto subject = std::make_unique<kvm::CoreKvmSubject>();
  if (!subject->open(why)) return nullptr;
  return subject;
}

}  // namespace twinwalk
