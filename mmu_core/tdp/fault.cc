#include "mmu_core/tdp/fault.h"

#include "mmu_core/async_fault.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/fast_fault.h"
#include "mmu_core/tdp/iterator.h"
#include "mmu_core/tdp/map.h"
#include "mmu_core/tdp/readers.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

// Of what is no memory. The processor cannot walk the guest's tables there: the core has to say
// what becomes of the access.
Answer not_memory(const TdpFault& fault) { return fault.table ? Answer::kEmulate : Answer::kMmio; }

// An entry that stands for MMIO, of the current generation of memslots, explains the fault.
bool explained_by_mmio(VcpuState& vcpu, const Fault& fault) {
  VmState& vm = *vcpu.vm;
  const Readers readers(vm);
  if (is_stale(vcpu, fault.is_private)) return false;
  u64 entry = 0;
  for (Iterator it(*vcpu.tdp.root_of(fault.is_private), fault.gfn, fault.gfn); it.valid();
       it.next())
    entry = it.entry();
  if (!is_mmio(vm.tdp.format, entry)) return false;
  const u64 generation = space_of(vcpu).slots.generation() & kMmioGenMask;
  const bool current = mmio_generation(entry) == generation;
  count(vm, current ? TdpEvent::kMmioHit : TdpEvent::kMmioStale, 1);
  return current;
}

// What is private is reached as private only, and the rest only otherwise.
bool attributes_agree(const VcpuState& vcpu, const Fault& fault) {
  return !has_private(vcpu) || vcpu.vm->tdp.private_ranges.contains(fault.gfn) == fault.is_private;
}

FrameLookup look_up(VcpuState& vcpu, const TdpFault& tdp_fault, const Fault& fault, Hva hva,
                    bool write, u64* token) {
  if (!token) return vcpu.vm->platform.lookup_frame(hva, write);
  AsyncFault async;
  async.space = fault.slot->space;
  async.gfn = fault.gfn;
  async.gpa = tdp_fault.gpa;
  const FrameLookup found = async::look_up(vcpu, async, hva, write);
  *token = async.token;
  return found;
}

// What becomes of a fault that has no frame to map.
Answer without_frame(FrameLookup::Kind why, const TdpFault& fault) {
  switch (why) {
    case FrameLookup::Kind::kReadOnly:
      return not_memory(fault);
    case FrameLookup::Kind::kPoisoned:
      return Answer::kPoisoned;
    case FrameLookup::Kind::kLater:
      return Answer::kLater;
    case FrameLookup::Kind::kNoFrame:
    case FrameLookup::Kind::kFrame:
      break;
  }
  return Answer::kNoMemory;
}

// The part under the mmu lock, which other faults may hold at the same time.
Answer install(VcpuState& vcpu, const TdpFault& tdp_fault, const Fault& fault) {
  VmState& vm = *vcpu.vm;
  const LockedShared lock(vm, LockId::kMmu);
  const Readers readers(vm);
  if (is_stale(vcpu, fault.is_private) || !attributes_agree(vcpu, fault) ||
      fault.slot_generation != space_of(vcpu).slots.generation()) {
    count(vm, TdpEvent::kRetryStale);
    vcpu.free_obsolete_roots = true;
    return Answer::kRetry;
  }
  if (fault.slot && notifier::changed(vm, fault.seen, fault.slot->hva_of(fault.gfn))) {
    count(vm, TdpEvent::kRetryNotifier);
    return Answer::kRetry;
  }
  switch (map(vcpu, fault)) {
    case MapResult::kMmio:
      return not_memory(tdp_fault);
    case MapResult::kWriteProtected:
      return Answer::kEmulate;
    case MapResult::kRetry:
      return Answer::kRetry;
    case MapResult::kInstalled:
    case MapResult::kSpurious:
      return Answer::kMapped;
  }
  __builtin_unreachable();
}

}  // namespace

Answer answer_fault(VcpuState& vcpu, const TdpFault& tdp_fault, u64* token) {
  VmState& vm = *vcpu.vm;
  bump(vm.stats.faults);
  Fault fault;
  fault.gfn = Gfn::of(Gpa{tdp_fault.gpa.raw & ~vm.config.shared_bit});
  fault.is_private = tdp_fault.is_private && has_private(vcpu);
  fault.write = tdp_fault.write;
  fault.fetch = tdp_fault.fetch;
  if (tdp_fault.gpa.raw >> vm.tdp.format.gpa_bits) return not_memory(tdp_fault);
  if (!attributes_agree(vcpu, fault)) {
    count(vm, TdpEvent::kMemoryFault);
    return Answer::kMemoryFault;
  }
  if (tdp_fault.reserved && explained_by_mmio(vcpu, fault)) return not_memory(tdp_fault);
  if (vm.config.options.fast_fault && !tdp_fault.reserved && fast_fault(vcpu, fault))
    return Answer::kMapped;
  const bool mirror = vm.config.external_private && fault.is_private;
  if (!vcpu.tdp.store.top_up(vm.platform, mirror)) return Answer::kNoMemory;

  Memslots& slots = space_of(vcpu).slots;
  fault.slot_generation = slots.generation();
  fault.slot = slots.find(fault.gfn);
  fault.seen = notifier::snapshot(vm);
  if (fault.slot) {
    if (fault.slot->invalid) return Answer::kRetry;  // neither memory nor MMIO yet
    if (fault.write && fault.slot->read_only) return not_memory(tdp_fault);
    const Hva hva = fault.slot->hva_of(fault.gfn);
    if (notifier::changed(vm, fault.seen, hva)) {  // before the host is asked to no avail
      count(vm, TdpEvent::kRetryNotifier);
      return Answer::kRetry;
    }
    // A module maps with all rights.
    fault.frame = look_up(vcpu, tdp_fault, fault, hva, fault.write || mirror, token);
    if (mirror && fault.frame.kind == FrameLookup::Kind::kReadOnly) return Answer::kMemoryFault;
    if (fault.frame.kind != FrameLookup::Kind::kFrame)
      return without_frame(fault.frame.kind, tdp_fault);
  }
  vm.platform.yield(YieldPoint::kAfterFrame, vcpu.id);
  const Answer r = install(vcpu, tdp_fault, fault);
  vm.platform.yield(YieldPoint::kAfterInstall, vcpu.id);
  return r;
}

FaultResult handle_fault(VcpuState& vcpu, const TdpFault& fault) {
  using Kind = FaultResult::Kind;
  FaultResult r;
  r.gpa = fault.gpa;
  switch (answer_fault(vcpu, fault, &r.token)) {
    case Answer::kMapped:
    case Answer::kRetry:
      r.kind = Kind::kRetry;
      break;
    case Answer::kMmio:
      r.kind = Kind::kMmio;
      break;
    case Answer::kEmulate:
      r.kind = Kind::kEmulate;
      break;
    case Answer::kNoMemory:
      r.kind = Kind::kNoMemory;
      break;
    case Answer::kMemoryFault:
      r.kind = Kind::kMemoryFault;
      break;
    case Answer::kLater:
      r.kind = Kind::kLater;
      break;
    case Answer::kPoisoned:
      r.kind = Kind::kPoisoned;
      break;
  }
  return r;
}

}  // namespace mmu::tdp
