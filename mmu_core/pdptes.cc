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

// False: their memslot is being deleted or moved. All are in one page.
bool read_once(GuestMemory& memory, u64 cr3, Pdptes& p) {
  using Result = GuestMemory::Result;
  const Gpa table{cr3 & cr3::kTablePae};
  for (unsigned i = 0; i < 4; ++i) {
    const Result result = memory.read(table + i * sizeof(u64), sizeof(u64), p.entry[i]);
    if (result == Result::kSlotLeaves) return false;
    if (result != Result::kOk) p.entry[i] = 0;
  }
  return true;
}

// What a register is loaded with cannot be tried again later, as an access can.
Pdptes read(const VcpuState& vcpu, u64 cr3) {
  Pdptes p;
  while (!read_once(space_of(vcpu).memory, cr3, p)) await_slots(*vcpu.vm);
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
