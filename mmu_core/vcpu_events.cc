// What happens to a vCPU as a whole: SMM, INIT and RESET; and INVLPGA, which says little to one.

#include "mmu_core/async_fault.h"
#include "mmu_core/pdptes.h"
#include "mmu_core/registers.h"
#include "mmu_core/roots.h"
#include "mmu_core/slots_in_use.h"
#include "mmu_core/state.h"
#include "mmu_core/tdp/hardware.h"
#include "mmu_core/vcpu_setup.h"

namespace mmu {

void forget_translations(VcpuState& v) {
  async::forget(v);
  if (v.vm->tdp.on) return tdp::start_over(v);
  roots::free_all(v);
  roots::invalidate_everything(v);
}

void start_over(VcpuState& v, const CpuRegisters& next) {
  forget_translations(v);
  v.regs = next;
  v.context = make_walk_context(v.vm->config.caps, v.regs);
  v.role = root_role(v.context);
  pdptes::reread(v);
}

bool Vcpu::set_smm(bool smm) {
  VcpuState& v = *state_;
  if (v.regs.smm == smm) return false;
  const SlotsInUse slots(v.vm->platform);
  CpuRegisters next = v.regs;
  next.smm = smm;
  start_over(v, next);
  return true;
}

bool Vcpu::smm() const { return state_->regs.smm; }

void Vcpu::init(bool reset) {
  const SlotsInUse slots(state_->vm->platform);
  start_over(*state_, registers::after_init(state_->regs, reset));
}

// APM 3 "INVLPGA". Translations of another ASID are not this guest's.
bool Vcpu::invlpga(Gva gva, u32 asid) {
  const VcpuState& v = *state_;
  if (!(v.regs.efer & efer::kSvme)) return false;
  if (asid == 0) invlpg(gva);
  return true;
}

}  // namespace mmu
