#include "mmu_core/emulate.h"
#include "mmu_core/fault.h"
#include "mmu_core/flush.h"
#include "mmu_core/mmio.h"
#include "mmu_core/roots.h"
#include "mmu_core/state.h"
#include "mmu_core/sync.h"
#include "mmu_core/vcpu_setup.h"
#include "mmu_core/zap.h"

namespace mmu {
namespace {

u64 physical_reserved(const Capabilities& caps) { return bits(caps.maxphyaddr, 63); }

u64 cr4_allowed(const Capabilities& c) {
  return cr4::kPae | cr4::kMce | (c.pse ? cr4::kPse : 0) | (c.pge ? cr4::kPge : 0) |
         (c.la57 ? cr4::kLa57 : 0) | (c.pcid ? cr4::kPcide : 0) | (c.smep ? cr4::kSmep : 0) |
         (c.smap ? cr4::kSmap : 0) | (c.pku ? cr4::kPke : 0);
}

u64 efer_allowed(const Capabilities& c) {
  return efer::kSce | efer::kLme | efer::kLma | (c.nx ? efer::kNxe : 0) |
         (c.vendor == Vendor::kAmd ? efer::kTce : 0);
}

bool long_mode(const CpuRegisters& r) { return r.efer & efer::kLma; }

// Registers that decide a walk have changed. Roots whose role no longer fits are let go; their
// pages stay cached.
void refresh(VcpuState& v) {
  v.context = make_walk_context(v.vm->config.caps, v.regs);
  const PageRole role = root_role(v.context);
  mmio::forget(v);
  if (role == v.role) return;
  v.role = role;
  roots::free_all(v);
}

}  // namespace

PageRole root_role(const WalkContext& context) {
  PageRole role = base_role(context);
  role.set<PageRole::Level>(context.mode->levels);
  role.set<PageRole::Access>(acc::kAll);
  return role;
}

void reset_vcpu(VcpuState& v) {
  v.regs = CpuRegisters{};
  v.regs.cr0 = cr0::kPe | cr0::kEt | cr0::kNe | cr0::kWp | cr0::kPg;
  v.regs.cr4 = cr4::kPae;
  v.regs.efer = efer::kLme | efer::kLma | (v.vm->config.caps.nx ? efer::kNxe : 0);
  v.free_obsolete_roots = false;
  v.mmio = MmioCache{};
  v.context = make_walk_context(v.vm->config.caps, v.regs);
  v.role = root_role(v.context);
}

// SDM 3A "Control Registers"; "Restrictions on MOV CR".
bool Vcpu::set_cr0(u64 value) {
  VcpuState& v = *state_;
  if (value >> 32) return false;
  value &= cr0::kKnown;  // reserved bits below 32 are ignored
  if ((value & cr0::kPg) && !(value & cr0::kPe)) return false;
  if ((value & cr0::kNw) && !(value & cr0::kCd)) return false;
  if (!(value & cr0::kPg) && (long_mode(v.regs) || (v.regs.cr4 & cr4::kPcide))) return false;
  v.regs.cr0 = value | cr0::kEt;
  refresh(v);
  return true;
}

bool Vcpu::set_cr3(u64 value) {
  VcpuState& v = *state_;
  bool flush = true;
  if (v.regs.cr4 & cr4::kPcide) {
    flush = !(value & cr3::kNoFlush);
    value &= ~cr3::kNoFlush;
  }
  if (value & physical_reserved(v.vm->config.caps)) return false;
  if (value != v.regs.cr3) {
    roots::switch_to(v, value);
    v.regs.cr3 = value;
  }
  if (flush) roots::invalidate_pcid(v, flush::hardware_pcid(v));
  return true;
}

bool Vcpu::set_cr4(u64 value) {
  VcpuState& v = *state_;
  const u64 old = v.regs.cr4;
  if (value & ~cr4_allowed(v.vm->config.caps)) return false;
  if (long_mode(v.regs) && (!(value & cr4::kPae) || ((value ^ old) & cr4::kLa57))) return false;
  const bool pcide_on = (value & ~old) & cr4::kPcide;
  if (pcide_on && (!long_mode(v.regs) || (v.regs.cr3 & cr3::kPcid))) return false;
  v.regs.cr4 = value;
  refresh(v);
  const bool pcide_off = (old & ~value) & cr4::kPcide;
  // SDM 3A "Operations that Invalidate TLBs and Paging-Structure Caches"; AMD drops everything on
  // more of them.
  u64 total = cr4::kPge;
  if (v.vm->config.caps.vendor == Vendor::kAmd) total |= cr4::kPae | cr4::kPse;
  const bool pke_on = (value & ~old) & cr4::kPke;
  if (((value ^ old) & total) || pcide_off ||
      (pke_on && v.vm->config.caps.vendor == Vendor::kAmd)) {
    roots::invalidate_everything(v);
    roots::free_previous_locked(v);
  } else if (((value ^ old) & cr4::kPae) || ((value & ~old) & cr4::kSmep)) {
    roots::refresh_current(v);
  }
  return true;
}

bool Vcpu::set_efer(u64 value) {
  VcpuState& v = *state_;
  if (value & ~efer_allowed(v.vm->config.caps)) return false;
  if ((v.regs.cr0 & cr0::kPg) && ((value ^ v.regs.efer) & efer::kLme)) return false;
  v.regs.efer = (value & ~efer::kLma) | (v.regs.efer & efer::kLma);  // LMA is the processor's
  refresh(v);
  return true;
}

void Vcpu::set_pkru(u32 value) { state_->regs.pkru = value; }
void Vcpu::set_cpl(u8 cpl) { state_->regs.cpl = cpl; }
void Vcpu::set_ac(bool ac) { state_->regs.ac = ac; }
u64 Vcpu::cr0() const { return state_->regs.cr0; }
u64 Vcpu::cr3() const { return state_->regs.cr3; }
u64 Vcpu::cr4() const { return state_->regs.cr4; }
u64 Vcpu::efer() const { return state_->regs.efer; }
u32 Vcpu::pkru() const { return state_->regs.pkru; }

void Vcpu::invlpg(Gva gva) {
  VcpuState& v = *state_;
  ++v.vm->stats.invlpgs;
  if (!is_canonical(*v.context.mode, gva)) return;
  roots::invalidate_address(v, gva);
}

// SDM 2 "INVPCID".
bool Vcpu::invpcid(u64 type, u64 pcid, Gva gva) {
  VcpuState& v = *state_;
  if (type > 3 || pcid > cr3::kPcid) return false;
  if (type < 2 && !(v.regs.cr4 & cr4::kPcide) && pcid) return false;
  if (type == 0 && !is_canonical(*v.context.mode, gva)) return false;
  const u16 current = flush::hardware_pcid(v);
  if (type == 0 && pcid == current) {
    roots::invalidate_address(v, gva);
  } else if (type < 2) {  // another PCID's single address: its roots go altogether
    roots::invalidate_pcid(v, static_cast<u16>(pcid));
  } else {
    roots::invalidate_everything(v);
  }
  return true;
}

EntryState Vcpu::enter() {
  VcpuState& v = *state_;
  if (v.free_obsolete_roots) {
    v.free_obsolete_roots = false;
    roots::free_obsolete(v);
  }
  EntryState e;
  if (!v.root.valid()) {
    if (!roots::load(v)) return e;
  }
  if (v.vm->config.options.extra_flush) flush::all(*v.vm);
  e.ok = true;
  e.root = v.root.dummy ? v.vm->dummy.hpa : v.root.page->hpa;
  e.pcid = flush::hardware_pcid(v);
  e.smep = v.regs.cr4 & cr4::kSmep;
  e.smap = v.regs.cr4 & cr4::kSmap;
  e.pke = v.regs.cr4 & cr4::kPke;
  return e;
}

FaultResult Vcpu::handle_fault(Gva gva, u32 error_code, bool implicit) {
  return mmu::handle_fault(*state_, gva, error_code, implicit);
}

EmulateResult Vcpu::emulate(Gva gva, Access access, unsigned size, u64 value, bool implicit) {
  return emulate::linear(*state_, gva, access, size, value, implicit);
}

EmulateResult Vcpu::write_physical(Gpa gpa, unsigned size, u64 value) {
  return emulate::physical_write(*state_, gpa, size, value);
}

}  // namespace mmu
