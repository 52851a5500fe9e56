#include <cstring>

#include "mmu_core/emulate.h"
#include "mmu_core/fault.h"
#include "mmu_core/flush.h"
#include "mmu_core/host_tables.h"
#include "mmu_core/mmio.h"
#include "mmu_core/pdptes.h"
#include "mmu_core/registers.h"
#include "mmu_core/roots.h"
#include "mmu_core/slots_in_use.h"
#include "mmu_core/state.h"
#include "mmu_core/sync.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/tdp/hardware.h"
#include "mmu_core/vcpu_setup.h"
#include "mmu_core/zap.h"

namespace mmu {
namespace {

// Takes over the registers and lets go of the roots that they no longer name.
void take(VcpuState& v, const CpuRegisters& next) {
  const PagingMode* const was = v.context.mode;
  const bool pdptes_differ = std::memcmp(v.regs.pdpte, next.pdpte, sizeof next.pdpte) != 0;
  v.regs = next;
  v.context = make_walk_context(v.vm->config.caps, v.regs);
  const PageRole role = root_role(v.context);
  if (v.vm->tdp.on) {  // the hardware walks the guest's tables itself
    v.role = role;
    return;
  }
  mmio::forget(v);
  if (role != v.role) {
    v.role = role;
    roots::role_changed(v, v.context.mode != was);
  } else if (v.context.mode == &kPae && pdptes_differ) {
    roots::free_current(v);
  }
}

void invalidate(VcpuState& v, registers::Invalidates what) {
  if (v.vm->tdp.on) return;
  switch (what) {
    case registers::Invalidates::kEverything:
      return roots::invalidate_everything(v);
    case registers::Invalidates::kCurrentPcid:
      return roots::refresh_current(v);
    case registers::Invalidates::kNothing:
      return;
  }
}

// CR0 or CR4 becomes what `next` has. False: #GP(0).
bool change_control(VcpuState& v, CpuRegisters& next) {
  const CpuRegisters old = v.regs;
  if (registers::loads_pdptes(old, next) && !pdptes::load(v, next)) return false;
  take(v, next);
  invalidate(v, registers::invalidates(v.vm->config.caps.vendor, old, next));
  pdptes::reread(v);
  return true;
}

}  // namespace

PageRole root_role(const WalkContext& context) {
  const PagingMode& mode = *context.mode;
  PageRole role = base_role(context);
  // Outside IA-32e mode a root is four pages, each for a GiB (KVM: PT32_ROOT_LEVEL).
  role.set<PageRole::Level>(mode.legacy() ? u8{2} : mode.levels);
  role.set<PageRole::Access>(acc::kAll);
  return role;
}

void reset_vcpu(VcpuState& v) {
  v.regs = registers::at_start(v.vm->config.caps);
  v.free_obsolete_roots = false;
  v.mmio = MmioCache{};
  v.context = make_walk_context(v.vm->config.caps, v.regs);
  v.role = root_role(v.context);
}

bool Vcpu::set_cr0(u64 value) {
  const SlotsInUse slots(state_->vm->platform);
  CpuRegisters next = state_->regs;
  return registers::write_cr0(next, value) && change_control(*state_, next);
}

bool Vcpu::set_cr3(u64 value) {
  VcpuState& v = *state_;
  const SlotsInUse slots(v.vm->platform);
  CpuRegisters next = v.regs;
  bool flush = true;
  if (!registers::write_cr3(v.vm->config.caps, next, value, flush)) return false;
  if (v.context.mode == &kPae) {
    if (!pdptes::load(v, next)) return false;
    take(v, next);
  }
  if (v.vm->tdp.on) {
    v.regs = next;
    return true;
  }
  if (next.cr3 != v.regs.cr3) roots::switch_to(v, next.cr3);
  v.regs = next;
  if (flush) roots::invalidate_pcid(v, flush::hardware_pcid(v));
  return true;
}

bool Vcpu::set_cr4(u64 value) {
  VcpuState& v = *state_;
  const SlotsInUse slots(v.vm->platform);
  const u64 old = v.regs.cr4;
  CpuRegisters next = v.regs;
  if (!registers::write_cr4(v.vm->config.caps, next, value) || !change_control(v, next))
    return false;
  // With PCIDs a CR3 may be loaded without a flush: no root may come back that an earlier flush did
  // not sync, because it was not the current one then.
  const bool pcids_begin_or_end = (value ^ old) & cr4::kPcide;
  if (pcids_begin_or_end && !v.vm->tdp.on) roots::free_previous_locked(v);
  return true;
}

bool Vcpu::set_efer(u64 value) {
  VcpuState& v = *state_;
  const SlotsInUse slots(v.vm->platform);
  CpuRegisters next = v.regs;
  if (!registers::write_efer(v.vm->config.caps, next, value)) return false;
  take(v, next);
  return true;
}

bool Vcpu::set_sregs(const Sregs& sregs) {
  VcpuState& v = *state_;
  const SlotsInUse slots(v.vm->platform);
  CpuRegisters next = v.regs;
  if (!registers::set_sregs(v.vm->config.caps, next, sregs)) return false;
  const bool pae = make_walk_context(v.vm->config.caps, next).mode == &kPae;
  if (pae && !pdptes::load(v, next)) return false;
  take(v, next);
  forget_translations(v);
  return true;
}

void Vcpu::set_pkru(u32 value) { state_->regs.pkru = value; }
void Vcpu::set_cpl(u8 cpl) { state_->regs.cpl = cpl; }
void Vcpu::set_ac(bool ac) { state_->regs.ac = ac; }
u64 Vcpu::cr0() const { return state_->regs.cr0; }
u64 Vcpu::cr3() const { return registers::visible_cr3(state_->regs); }
u64 Vcpu::cr4() const { return state_->regs.cr4; }
u64 Vcpu::efer() const { return state_->regs.efer; }
u32 Vcpu::pkru() const { return state_->regs.pkru; }

void Vcpu::invlpg(Gva gva) {
  VcpuState& v = *state_;
  bump(v.vm->stats.invlpgs);
  if (v.vm->tdp.on || !is_canonical(*v.context.mode, gva)) return;
  const SlotsInUse slots(v.vm->platform);
  pdptes::reread(v);
  roots::invalidate_address(v, linear_address(*v.context.mode, gva));
}

// SDM 2A "INVPCID": all 64 bits of the linear address count outside 64-bit mode too, also for what
// is canonical (KVM: is_noncanonical_invlpg_address() goes by CR4.LA57 alone).
bool Vcpu::invpcid(u64 type, u64 pcid, Gva gva) {
  VcpuState& v = *state_;
  if (type > 3 || pcid > cr3::kPcid) return false;
  if (type < 2 && !(v.regs.cr4 & cr4::kPcide) && pcid) return false;
  if (type == 0 && !is_canonical(v.regs.cr4 & cr4::kLa57 ? k5Level : k4Level, gva)) return false;
  if (v.vm->tdp.on) return true;
  const SlotsInUse slots(v.vm->platform);
  pdptes::reread(v);
  const u16 current = flush::hardware_pcid(v);
  if (type == 0 && pcid == current) {
    roots::invalidate_address(v, linear_address(*v.context.mode, gva));
  } else if (type < 2) {  // another PCID's single address: its roots go altogether
    roots::invalidate_pcid(v, static_cast<u16>(pcid));
  } else {
    roots::invalidate_everything(v);
  }
  return true;
}

EntryState Vcpu::enter() {
  VcpuState& v = *state_;
  const SlotsInUse slots(v.vm->platform);
  if (v.vm->tdp.on) return tdp::enter(v);
  if (v.vm->config.options.extra_flush) flush::all(*v.vm);
  EntryState e;
  if (!roots::make_ready(v)) return e;
  e.ok = true;
  e.root = host_tables::root(v);
  e.levels = host_tables::levels(v);
  e.pcid = flush::hardware_pcid(v);
  // Not the registers' bits: they act with paging only, while the hardware's paging is always on.
  e.smep = v.context.smep;
  e.smap = v.context.smap;
  e.pke = v.context.pke;
  return e;
}

FaultResult Vcpu::handle_fault(Gva gva, u32 error_code, bool implicit) {
  if (state_->vm->tdp.on) state_->vm->platform.panic("a #PF that is the guest's own");
  const SlotsInUse slots(state_->vm->platform);
  return mmu::handle_fault(*state_, linear_address(*state_->context.mode, gva), error_code,
                           implicit);
}

EmulateResult Vcpu::emulate(Gva gva, Access access, unsigned size, u64 value, bool implicit) {
  const SlotsInUse slots(state_->vm->platform);
  if (state_->vm->tdp.on) pdptes::reread(*state_);  // no #PF has
  return emulate::linear(*state_, linear_address(*state_->context.mode, gva), access, size, value,
                         implicit);
}

EmulateResult Vcpu::write_physical(Gpa gpa, unsigned size, u64 value) {
  const SlotsInUse slots(state_->vm->platform);
  // Perhaps before the vCPU was ever entered.
  if (state_->vm->tdp.on && !dirty_ring::prepare(*state_)) {
    EmulateResult none;
    none.kind = EmulateResult::Kind::kNoMemory;
    return none;
  }
  return emulate::physical_write(*state_, gpa, size, value);
}

}  // namespace mmu
