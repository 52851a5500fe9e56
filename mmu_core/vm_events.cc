// What the host does to vCPUs from outside: other capabilities, and a vCPU that comes anew.

#include "mmu_core/host_tables.h"
#include "mmu_core/pdptes.h"
#include "mmu_core/registers.h"
#include "mmu_core/roots.h"
#include "mmu_core/slots_in_use.h"
#include "mmu_core/state.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/vcpu_setup.h"
#include "mmu_core/zap.h"

namespace mmu {

namespace {

// Width of the addresses that the guest has and the tables translate: the shared bit is their top
// one, for as long as there is the VM.
u8 top_gpa_bits(const VmState& vm, const Capabilities& caps) {
  const u8 translated = vm.tdp.format.gpa_bits;
  return caps.maxphyaddr < translated ? caps.maxphyaddr : translated;
}

}  // namespace

// Reserved bits and sizes of pages follow from capabilities, and no role tells by which of them a
// shadow page was made: none may be found again (KVM refuses a change after the first run for that
// reason, see kvm_mmu_after_set_cpuid).
Status Vm::set_cpuid(const Capabilities& wanted) {
  VmState& vm = *state_;
  Capabilities caps = wanted;
  caps.vendor = vm.config.caps.vendor;
  caps.host_maxphyaddr = vm.config.caps.host_maxphyaddr;
  if (caps.maxphyaddr > caps.host_maxphyaddr) return Status::kInvalid;
  if (vm.config.shared_bit && top_gpa_bits(vm, caps) != top_gpa_bits(vm, vm.config.caps))
    return Status::kInvalid;
  for (u32 i = 0; i < vm.config.vcpus; ++i)
    if (!registers::possible(caps, vm.vcpu[i].regs)) return Status::kInvalid;
  vm.config.caps = caps;
  {
    const SlotsInUse slots(vm.platform);
    for (VcpuState& v : vm.vcpu) start_over(v, v.regs);
  }
  zap_all();
  return Status::kOk;
}

Status Vm::recreate_vcpu(u32 index, const Sregs& start) {
  VcpuState& v = state_->vcpu[index];
  const SlotsInUse slots(state_->platform);
  forget_translations(v);  // no hardware knows the host's tables any more
  host_tables::free(v);
  v.caches.drain();
  v.tdp.store.drain(state_->platform);
  {
    const Locked lock(*state_, LockId::kMmu);  // who takes the log looks at every vCPU's
    pml::release(v);
  }
  dirty_ring::release(v);
  reset_vcpu(v);
  CpuRegisters next = v.regs;
  if (!registers::set_sregs(state_->config.caps, next, start)) return Status::kInvalid;
  pdptes::load_at_start(v, next);
  start_over(v, next);
  return Status::kOk;
}

}  // namespace mmu
