#include "mmu_core/registers.h"

namespace mmu::registers {
namespace {

u64 physical_reserved(const Capabilities& caps) { return bits(caps.maxphyaddr, 63); }

u64 cr4_allowed(const Capabilities& c) {
  return cr4::kMce | (c.pae ? cr4::kPae : 0) | (c.pse ? cr4::kPse : 0) | (c.pge ? cr4::kPge : 0) |
         (c.la57 ? cr4::kLa57 : 0) | (c.pcid ? cr4::kPcide : 0) | (c.smep ? cr4::kSmep : 0) |
         (c.smap ? cr4::kSmap : 0) | (c.pku ? cr4::kPke : 0);
}

u64 efer_allowed(const Capabilities& c) {
  return efer::kSce | efer::kLme | efer::kLma | (c.nx ? efer::kNxe : 0) |
         (c.vendor == Vendor::kAmd ? efer::kTce | (c.svm ? efer::kSvme : 0) : 0);
}

bool cr0_consistent(u64 value) {
  if (value >> 32) return false;
  if ((value & cr0::kPg) && !(value & cr0::kPe)) return false;
  return !(value & cr0::kNw) || (value & cr0::kCd);
}

// Reserved bits below 32 are ignored, ET is 1.
u64 cr0_stored(u64 value) { return (value & cr0::kKnown) | cr0::kEt; }

bool pae_paging(const CpuRegisters& r) {
  return (r.cr0 & cr0::kPg) && (r.cr4 & cr4::kPae) && !long_mode(r);
}

}  // namespace

CpuRegisters at_start(const Capabilities& caps) {
  CpuRegisters r;
  r.cr0 = cr0::kPe | cr0::kEt | cr0::kNe | cr0::kWp | cr0::kPg;
  r.cr4 = cr4::kPae;
  r.efer = efer::kLme | efer::kLma | (caps.nx ? efer::kNxe : 0);
  return r;
}

// SDM 3A "Control Registers"; SDM 3A "Initializing IA-32e Mode", "Exiting IA-32e Mode" (clearing PG
// is done in compatibility mode).
bool write_cr0(CpuRegisters& r, u64 value) {
  if (!cr0_consistent(value)) return false;
  const bool on = value & cr0::kPg;
  if (!on && (r.cr4 & cr4::kPcide)) return false;
  const bool ia32e = on && (r.efer & efer::kLme);
  if (ia32e && !(r.cr4 & cr4::kPae)) return false;
  r.cr0 = cr0_stored(value);
  r.efer = ia32e ? r.efer | efer::kLma : r.efer & ~efer::kLma;
  return true;
}

bool write_cr3(const Capabilities& caps, CpuRegisters& r, u64 value, bool& flush) {
  flush = true;
  if (!long_mode(r)) {
    r.cr3 = value & cr3::kLegacy;
    return true;
  }
  if (r.cr4 & cr4::kPcide) {
    flush = !(value & cr3::kNoFlush);
    value &= ~cr3::kNoFlush;
  }
  if (value & physical_reserved(caps)) return false;
  r.cr3 = value;
  return true;
}

bool write_cr4(const Capabilities& caps, CpuRegisters& r, u64 value) {
  if (value & ~cr4_allowed(caps)) return false;
  if (long_mode(r) && (!(value & cr4::kPae) || ((value ^ r.cr4) & cr4::kLa57))) return false;
  const bool pcide_on = (value & ~r.cr4) & cr4::kPcide;
  if (pcide_on && (!long_mode(r) || (r.cr3 & cr3::kPcid))) return false;
  r.cr4 = value;
  return true;
}

bool write_efer(const Capabilities& caps, CpuRegisters& r, u64 value) {
  if (value & ~efer_allowed(caps)) return false;
  if ((r.cr0 & cr0::kPg) && ((value ^ r.efer) & efer::kLme)) return false;
  r.efer = (value & ~efer::kLma) | (r.efer & efer::kLma);  // LMA is the processor's
  return true;
}

bool set_sregs(const Capabilities& caps, CpuRegisters& r, const Sregs& s) {
  if (!cr0_consistent(s.cr0)) return false;
  if (s.cr4 & ~cr4_allowed(caps)) return false;
  if (s.efer & ~efer_allowed(caps)) return false;
  const bool ia32e = (s.cr0 & cr0::kPg) && (s.efer & efer::kLme);
  if (ia32e != ((s.efer & efer::kLma) != 0)) return false;
  if (ia32e && (!(s.cr4 & cr4::kPae) || (s.cr3 & physical_reserved(caps)))) return false;
  if (!ia32e && (s.cr4 & cr4::kPcide)) return false;
  r.cr0 = cr0_stored(s.cr0);
  r.cr3 = ia32e ? s.cr3 : s.cr3 & cr3::kLegacy;  // as MOV to CR3 has it there
  r.cr4 = s.cr4;
  r.efer = s.efer;
  return true;
}

CpuRegisters after_init(const CpuRegisters& before, bool reset) {
  constexpr u64 kCaching = cr0::kCd | cr0::kNw;
  CpuRegisters r;
  r.cr0 = cr0::kEt | (reset ? kCaching : before.cr0 & kCaching);
  r.pkru = reset ? 0 : before.pkru;
  return r;
}

// IA-32e mode has no line of its own: it needs CR4.PAE. CR3 counts as a whole in every mode, since
// it may be in use as soon as IA-32e mode is.
bool possible(const Capabilities& caps, const CpuRegisters& r) {
  if (r.cr4 & ~cr4_allowed(caps)) return false;
  if (r.efer & ~efer_allowed(caps)) return false;
  if (r.cr3 & physical_reserved(caps)) return false;
  if (caps.vendor == Vendor::kAmd || !pae_paging(r)) return true;
  for (const u64 e : r.pdpte)
    if ((e & pte::kP) && (e & pdpte_reserved_bits(caps))) return false;
  return true;
}

bool loads_pdptes(const CpuRegisters& before, const CpuRegisters& after) {
  constexpr u64 kCr0 = cr0::kCd | cr0::kNw | cr0::kPg;
  constexpr u64 kCr4 = cr4::kPae | cr4::kPge | cr4::kPse | cr4::kSmep;
  if (!pae_paging(after)) return false;
  return ((before.cr0 ^ after.cr0) & kCr0) || ((before.cr4 ^ after.cr4) & kCr4);
}

Invalidates invalidates(Vendor vendor, const CpuRegisters& before, const CpuRegisters& after) {
  const u64 cr0 = before.cr0 ^ after.cr0, cr4 = before.cr4 ^ after.cr4;
  const u64 on = after.cr4 & ~before.cr4, off = before.cr4 & ~after.cr4;
  const bool amd = vendor == Vendor::kAmd;
  // SDM 3A "Invalidating the Translation Lookaside Buffers (TLBs)": PSE, PGE and PAE alike.
  if ((cr0 & before.cr0 & cr0::kPg) || (cr4 & (cr4::kPge | cr4::kPae | cr4::kPse)) ||
      (off & cr4::kPcide))
    return Invalidates::kEverything;
  if (amd && ((cr0 & cr0::kPg) || (on & cr4::kPke))) return Invalidates::kEverything;
  if (on & cr4::kSmep) return Invalidates::kCurrentPcid;
  return Invalidates::kNothing;
}

}  // namespace mmu::registers
