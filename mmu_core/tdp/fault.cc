#include "mmu_core/tdp/fault.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/iterator.h"
#include "mmu_core/tdp/map.h"
#include "mmu_core/tdp/readers.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

using Kind = FaultResult::Kind;

FaultResult result(Kind kind, Gpa gpa = Gpa{}) {
  FaultResult r;
  r.kind = kind;
  r.gpa = gpa;
  return r;
}

// Of what is no memory. The processor cannot walk the guest's tables there: the core has to say
// what becomes of the access.
FaultResult not_memory(const TdpFault& fault) {
  return result(fault.table ? Kind::kEmulate : Kind::kMmio, fault.gpa);
}

// An entry that stands for MMIO, of the current generation of memslots, explains the fault.
bool explained_by_mmio(VcpuState& vcpu, Gfn gfn) {
  VmState& vm = *vcpu.vm;
  const Readers readers(vm);
  if (is_stale(vcpu)) return false;
  u64 entry = 0;
  for (Iterator it(*vcpu.tdp.root, gfn, gfn); it.valid(); it.next()) entry = it.entry();
  if (!is_mmio(vm.tdp.format, entry)) return false;
  const u64 generation = space_of(vcpu).slots.generation() & kMmioGenMask;
  const bool current = mmio_generation(entry) == generation;
  count(vm, current ? TdpEvent::kMmioHit : TdpEvent::kMmioStale, 1);
  return current;
}

// The part under the mmu lock, which other faults may hold at the same time.
FaultResult install(VcpuState& vcpu, const TdpFault& tdp_fault, const Fault& fault) {
  VmState& vm = *vcpu.vm;
  const LockedShared lock(vm, LockId::kMmu);
  const Readers readers(vm);
  if (is_stale(vcpu) || fault.slot_generation != space_of(vcpu).slots.generation()) {
    count(vm, TdpEvent::kRetryStale);
    vcpu.free_obsolete_roots = true;
    return result(Kind::kRetry);
  }
  if (fault.slot && notifier::changed(vm, fault.seen, fault.slot->hva_of(fault.gfn))) {
    count(vm, TdpEvent::kRetryNotifier);
    return result(Kind::kRetry);
  }
  switch (map(vcpu, fault)) {
    case MapResult::kMmio:
      return not_memory(tdp_fault);
    case MapResult::kWriteProtected:
      return result(Kind::kEmulate, tdp_fault.gpa);
    case MapResult::kInstalled:
    case MapResult::kSpurious:
    case MapResult::kRetry:
      return result(Kind::kRetry, tdp_fault.gpa);
  }
  __builtin_unreachable();
}

}  // namespace

FaultResult handle_fault(VcpuState& vcpu, const TdpFault& tdp_fault) {
  VmState& vm = *vcpu.vm;
  __atomic_fetch_add(&vm.stats.faults, 1, __ATOMIC_RELAXED);
  Fault fault;
  fault.gfn = Gfn::of(tdp_fault.gpa);
  fault.write = tdp_fault.write;
  fault.fetch = tdp_fault.fetch;
  if (tdp_fault.gpa.raw >> vm.tdp.format.gpa_bits) return not_memory(tdp_fault);
  if (tdp_fault.reserved && explained_by_mmio(vcpu, fault.gfn)) return not_memory(tdp_fault);
  if (!vcpu.tdp.store.top_up(vm.platform)) return result(Kind::kNoMemory);

  Memslots& slots = space_of(vcpu).slots;
  fault.slot_generation = slots.generation();
  fault.slot = slots.find(fault.gfn);
  fault.seen = notifier::snapshot(vm);
  if (fault.slot) {
    if (fault.slot->invalid) return result(Kind::kRetry);  // neither memory nor MMIO yet
    if (fault.write && fault.slot->read_only) return not_memory(tdp_fault);
    const Hva hva = fault.slot->hva_of(fault.gfn);
    if (notifier::changed(vm, fault.seen, hva)) {  // before the host is asked to no avail
      count(vm, TdpEvent::kRetryNotifier);
      return result(Kind::kRetry);
    }
    fault.frame = vm.platform.lookup_frame(hva, fault.write);
    if (fault.frame.kind == FrameLookup::Kind::kReadOnly) return not_memory(tdp_fault);
    if (fault.frame.kind != FrameLookup::Kind::kFrame) return result(Kind::kNoMemory);
  }
  vm.platform.yield(YieldPoint::kAfterFrame, vcpu.id);
  const FaultResult r = install(vcpu, tdp_fault, fault);
  vm.platform.yield(YieldPoint::kAfterInstall, vcpu.id);
  return r;
}

}  // namespace mmu::tdp
