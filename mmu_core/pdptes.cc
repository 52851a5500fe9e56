#include "mmu_core/pdptes.h"

#include <cstring>

#include "mmu_core/counters.h"
#include "mmu_core/mmio.h"
#include "mmu_core/roots.h"

namespace mmu::pdptes {
namespace {

struct Pdptes {
  u64 entry[4] = {};
};

// What a register is loaded with cannot be tried again later, as an access can. A memslot that is
// on its way has its memory still, and nobody has seen it gone.
Pdptes read(const VcpuState& vcpu, u64 cr3) {
  AddressSpace& space = space_of(vcpu);
  Pdptes p;
  const Gpa table{cr3 & cr3::kTablePae};  // all are in one page
  const Memslot* const slot = space.slots.find(Gfn::of(table));
  for (unsigned i = 0; slot && i < 4; ++i)
    if (space.memory.read(*slot, table + i * sizeof(u64), sizeof(u64), p.entry[i]) !=
        GuestMemory::Result::kOk)
      p.entry[i] = 0;
  return p;
}

}  // namespace

bool load(const VcpuState& vcpu, CpuRegisters& next) {
  VmState& vm = *vcpu.vm;
  const Capabilities& caps = vm.config.caps;
  const Pdptes p = read(vcpu, next.cr3);
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

void load_at_start(const VcpuState& vcpu, CpuRegisters& next) {
  const Capabilities& caps = vcpu.vm->config.caps;
  const Pdptes p = read(vcpu, next.cr3);
  std::memcpy(next.pdpte, p.entry, sizeof p.entry);
  if (caps.vendor == Vendor::kAmd) return;
  for (u64& e : next.pdpte)
    if ((e & pte::kP) && (e & pdpte_reserved_bits(caps))) e = 0;
}

void reread(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  if (vm.config.caps.vendor != Vendor::kAmd || vcpu.context.mode != &kPae) return;
  const Pdptes p = read(vcpu, vcpu.regs.cr3);
  if (std::memcmp(vcpu.regs.pdpte, p.entry, sizeof p.entry) == 0) return;
  count(vm, Event::kPdpteReread, 0, vcpu.role);
  std::memcpy(vcpu.regs.pdpte, p.entry, sizeof p.entry);
  if (vm.tdp.on) return;
  mmio::forget(vcpu);  // as with the root whose entry it came from
  roots::free_current(vcpu);
}

}  // namespace mmu::pdptes
