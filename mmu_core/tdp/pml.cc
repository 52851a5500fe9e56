#include "mmu_core/tdp/pml.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/dirty_ring.h"

namespace mmu::pml {
namespace {

bool logging(const VmState& vm) {
  for (const AddressSpace& space : vm.spaces)
    if (space.slots.active().logged) return true;
  return false;
}

u64* page_of(const VcpuState& vcpu) { return __atomic_load_n(&vcpu.tdp.pml.ptr, __ATOMIC_ACQUIRE); }

Gfn gfn_of(const VmState& vm, u64 entry) { return Gfn::of(Gpa{entry & ~vm.config.shared_bit}); }

}  // namespace

bool prepare(VcpuState& vcpu, Hpa& page) {
  page = Hpa{};
  VmState& vm = *vcpu.vm;
  if (!in_use(vm) || !logging(vm)) return true;
  TablePage& own = vcpu.tdp.pml;
  if (!own.ptr) {
    u64* entries = nullptr;
    if (!vm.platform.alloc_table(TableReach::kAnywhere, own.hpa, entries)) return false;
    for (unsigned i = 0; i < kEntries; ++i) entries[i] = kSeen;
    __atomic_store_n(&own.ptr, entries, __ATOMIC_RELEASE);
  }
  vcpu.tdp.pml_space = vcpu.regs.smm ? 1 : 0;
  page = own.hpa;
  return true;
}

void flush(VcpuState& vcpu, u16 index) {
  u64* const entries = page_of(vcpu);
  if (!entries) return;
  VmState& vm = *vcpu.vm;
  const unsigned first = index == kFull ? 0 : index + 1u;
  for (unsigned i = first; i < kEntries; ++i) {
    // What was seen stays so until the hardware overwrites it, and the vCPU is not in the guest.
    if (__atomic_load_n(&entries[i], __ATOMIC_RELAXED) == kSeen) continue;
    const u64 entry = __atomic_exchange_n(&entries[i], kSeen, __ATOMIC_ACQ_REL);
    count(vm, TdpEvent::kPmlEntry);
    const Gfn gfn = gfn_of(vm, entry);
    const Memslot* const slot = space_of(vcpu).slots.find(gfn);
    if (!slot) continue;
    if (!(entry & kInLog)) GuestMemory::mark_dirty(*slot, gfn);
    dirty_ring::push(vcpu, *slot, gfn);
  }
}

void flush_all(VmState& vm) {
  for (VcpuState& v : vm.vcpu) {
    u64* const entries = page_of(v);
    if (!entries) continue;
    for (unsigned i = 0; i < kEntries; ++i) {
      u64 entry = __atomic_load_n(&entries[i], __ATOMIC_ACQUIRE);
      if (entry == kSeen || (entry & kInLog)) continue;
      // Lost to the vCPU's own flush: that logs it.
      if (!__atomic_compare_exchange_n(&entries[i], &entry, entry | kInLog, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED))
        continue;
      count(vm, TdpEvent::kPmlEntry);
      const Gfn gfn = gfn_of(vm, entry);
      const Memslot* const slot = vm.spaces[v.tdp.pml_space].slots.find(gfn);
      if (slot) GuestMemory::mark_dirty(*slot, gfn);
    }
  }
}

void release(VcpuState& vcpu) {
  TablePage& own = vcpu.tdp.pml;
  if (!own.ptr) return;
  flush(vcpu, kFull);
  vcpu.vm->platform.free_table(own.hpa);
  own = TablePage{};
}

bool holds(const VmState& vm, u32 space, Gfn gfn) {
  for (const VcpuState& v : vm.vcpu) {
    if (!v.tdp.pml.ptr || (v.regs.smm ? 1u : 0u) != space) continue;
    for (unsigned i = 0; i < kEntries; ++i) {
      const u64 e = v.tdp.pml.ptr[i];
      if (e != kSeen && !(e & kInLog) && gfn_of(vm, e) == gfn) return true;
    }
  }
  return false;
}

}  // namespace mmu::pml
