#include "mmu_core/pdptes.h"

#include <cstring>

#include "mmu_core/counters.h"
#include "mmu_core/roots.h"

namespace mmu::pdptes {
namespace {

struct Pdptes {
  u64 entry[4] = {};
};

Pdptes read(VmState& vm, u64 cr3) {
  Pdptes p;
  const Gpa table{cr3 & cr3::kTablePae};
  for (unsigned i = 0; i < 4; ++i)
    if (vm.memory.read(table + i * sizeof(u64), sizeof(u64), p.entry[i]) !=
        GuestMemory::Result::kOk)
      p.entry[i] = 0;
  return p;
}

}  // namespace

bool load(VmState& vm, CpuRegisters& next) {
  const Capabilities& caps = vm.config.caps;
  const Pdptes p = read(vm, next.cr3);
  for (const u64 e : p.entry) {
    if (caps.vendor == Vendor::kIntel && (e & pte::kP) && (e & pdpte_reserved_bits(caps))) {
      count(vm, Event::kPdpteRefused, 0, PageRole{});
      return false;
    }
  }
  std::memcpy(next.pdpte, p.entry, sizeof p.entry);
  count(vm, Event::kPdpteLoad, 0, PageRole{});
  return true;
}

void reread(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  if (vm.config.caps.vendor != Vendor::kAmd || vcpu.context.mode != &kPae) return;
  const Pdptes p = read(vm, vcpu.regs.cr3);
  if (std::memcmp(vcpu.regs.pdpte, p.entry, sizeof p.entry) == 0) return;
  count(vm, Event::kPdpteReread, 0, vcpu.role);
  std::memcpy(vcpu.regs.pdpte, p.entry, sizeof p.entry);
  roots::free_current(vcpu);
}

}  // namespace mmu::pdptes
