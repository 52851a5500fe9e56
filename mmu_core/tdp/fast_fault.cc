#include "mmu_core/tdp/fast_fault.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/tdp/iterator.h"
#include "mmu_core/tdp/readers.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

constexpr unsigned kTries = 4;

// What the leaf may become for this access, by its own bits alone.
u64 widened(const Format& f, u64 was, bool write) {
  const u64 now = tracks_access(f, was) ? untracked(f, was) : was;
  return write && (was & f.mmu_writable) ? now | f.write : now;
}

Ref leaf_of(Table& root, Gfn gfn, u64& entry) {
  Ref ref;
  for (Iterator it(root, gfn, gfn); it.valid(); it.next()) {
    ref = it.ref();
    entry = it.entry();
  }
  return ref;
}

}  // namespace

bool fast_fault(VcpuState& vcpu, const Fault& fault) {
  VmState& vm = *vcpu.vm;
  const Format& f = vm.tdp.format;
  const Readers readers(vm);
  for (unsigned i = 0; i < kTries; ++i) {
    if (is_stale(vcpu, fault.is_private)) return false;
    u64 was = 0;
    const Ref ref = leaf_of(*vcpu.tdp.root_of(fault.is_private), fault.gfn, was);
    if (!is_leaf(was, ref.level())) return false;
    if (permits(f, was, fault.write, fault.fetch)) {
      count(vm, TdpEvent::kSpurious, ref.level());
      return true;
    }
    const u64 now = widened(f, was, fault.write);
    if (!permits(f, now, fault.write, fault.fetch)) return false;
    vm.platform.yield(YieldPoint::kAfterWalk, vcpu.id);
    const Memslot* const slot = space_of(vcpu).slots.find(fault.gfn);
    if (!slot || slot->invalid) return false;
    const bool gives_write = is_writable(f, now) && !is_writable(f, was);
    // Of a large page the log would have the small one that is written now, and no other.
    if (gives_write && slot->log_dirty && ref.level() > 1) return false;
    if (!__atomic_compare_exchange_n(ref.word(), &was, now, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_ACQUIRE))
      continue;
    // After it is writable: who takes the log between the two finds W, or leaves the page in the
    // next.
    if (gives_write) dirty_ring::mark(vcpu, *slot, fault.gfn);
    count(vm, gives_write ? TdpEvent::kFastWrite : TdpEvent::kFastAccess, ref.level());
    return true;
  }
  return false;
}

}  // namespace mmu::tdp
