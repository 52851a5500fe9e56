#include "mmu_core/tdp/pml.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/dirty_ring.h"

namespace mmu::pml {
namespace {

bool logging(const VmState& vm) {
  for (const AddressSpace& space : vm.spaces)
    for (const Memslot& slot : space.slots.active().slot)
      if (slot.used && slot.log_dirty) return true;
  return false;
}

void log(VcpuState& vcpu, u64& entry) {
  if (entry == kSeen) return;
  VmState& vm = *vcpu.vm;
  const Gfn gfn = Gfn::of(Gpa{entry & ~vm.config.shared_bit});
  entry = kSeen;
  count(vm, TdpEvent::kPmlEntry);
  if (const Memslot* slot = space_of(vcpu).slots.find(gfn)) dirty_ring::mark(vcpu, *slot, gfn);
}

}  // namespace

bool prepare(VcpuState& vcpu, Hpa& page) {
  page = Hpa{};
  VmState& vm = *vcpu.vm;
  if (!in_use(vm) || !logging(vm)) return true;
  TablePage& own = vcpu.tdp.pml;
  if (!own.ptr) {
    if (!vm.platform.alloc_table(TableReach::kAnywhere, own.hpa, own.ptr)) return false;
    for (unsigned i = 0; i < kEntries; ++i) own.ptr[i] = kSeen;
  }
  page = own.hpa;
  return true;
}

void flush(VcpuState& vcpu, u16 index) {
  u64* const entries = vcpu.tdp.pml.ptr;
  if (!entries) return;
  const unsigned first = index == kFull ? 0 : index + 1u;
  for (unsigned i = first; i < kEntries; ++i) log(vcpu, entries[i]);
}

void flush_all(VmState& vm) {
  for (VcpuState& v : vm.vcpu) flush(v, kFull);
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
      if (e != kSeen && Gfn::of(Gpa{e & ~vm.config.shared_bit}) == gfn) return true;
    }
  }
  return false;
}

}  // namespace mmu::pml
