#include "oracle/registers.h"

#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

using Kind = RegisterWrite::Kind;

constexpr std::uint64_t kLow32 = 0xffff'ffff;

constexpr std::uint64_t named(std::span<const BitName> names) {
  std::uint64_t all = 0;
  for (const BitName& n : names) all |= n.mask;
  return all;
}

// A bit of CR4 that exists only with a CPUID feature.
struct FeatureBit {
  std::uint64_t mask;
  std::uint32_t feature;
};
constexpr FeatureBit kCr4Features[] = {
    {cr4::kPse, feature::kPse},   {cr4::kPae, feature::kPae},    {cr4::kPge, feature::kPge},
    {cr4::kLa57, feature::kLa57}, {cr4::kPcide, feature::kPcid}, {cr4::kSmep, feature::kSmep},
    {cr4::kSmap, feature::kSmap}, {cr4::kPke, feature::kPku},
};

// Writes that load PAE's PDPTEs if PAE paging is in use afterwards, beside MOV to CR3.
// SDM 3A §"PDPTE Registers".
constexpr std::uint64_t kCr0Loads = cr0::kCd | cr0::kNw | cr0::kPg;
constexpr std::uint64_t kCr4Loads = cr4::kPae | cr4::kPge | cr4::kPse | cr4::kSmep;

bool long_mode(const Registers& r) { return r.efer & efer::kLma; }

// Checks that hold whatever the registers were before.
bool cr0_is_legal(std::uint64_t value) {
  return !((value & cr0::kPg) && !(value & cr0::kPe)) &&
         !((value & cr0::kNw) && !(value & cr0::kCd));
}
bool cr4_is_legal(const Machine& machine, std::uint64_t value) {
  for (const FeatureBit& f : kCr4Features) {
    if ((value & f.mask) && !machine.has(f.feature)) return false;
  }
  return (value & ~named(cr4::kNames)) == 0;
}
bool efer_is_legal(const Machine& machine, std::uint64_t value) {
  const bool amd = machine.vendor == Vendor::kAmd;
  if ((value & efer::kSvme) && !(amd && machine.has(feature::kSvm))) return false;
  if ((value & efer::kTce) && !amd) return false;
  if ((value & efer::kNxe) && !machine.has(feature::kNx)) return false;
  return (value & ~named(efer::kNames)) == 0;
}
bool cr3_is_legal(const Machine& machine, std::uint64_t value) {
  return value >> machine.maxphyaddr == 0;
}
// Reserved bits 31:0 are ignored, ET is fixed to 1.
std::uint64_t cr0_kept(std::uint64_t value) { return (value & named(cr0::kNames)) | cr0::kEt; }

RegisterWrite finish(const Registers& after, bool fault, const Rule& rule) {
  RegisterWrite w;
  w.after = after;
  w.rule = &rule;
  w.kind = fault ? Kind::kGp : Kind::kAccept;
  return w;
}

// Outside 64-bit mode MOV to CR0 and CR4 has an operand of 32 bits: what a trace that gives more
// means is nobody's to say. If it is accepted, bits 63:32 were not there.
void open_if_wide(RegisterWrite& w, const Registers& now, std::uint64_t value) {
  if (w.kind != Kind::kAccept || long_mode(now) || value >> 32 == 0) return;
  w.kind = Kind::kOpen;
  w.rule = &rules::kMovCr32;
}

RegisterWrite write_cr0(const Registers& now, std::uint64_t value) {
  Registers after = now;
  after.cr0 = cr0_kept(value);
  const std::uint64_t change = after.cr0 ^ now.cr0;
  bool fault = long_mode(now) && value >> 32 != 0;
  fault |= !cr0_is_legal(value);
  fault |= !(value & cr0::kPg) && (now.cr4 & cr4::kPcide);
  // IA-32e mode is entered and left with paging, and needs PAE. In long mode PG 1->0 is taken as
  // executed in compatibility mode: from 64-bit mode it is #GP.
  if (change & cr0::kPg) {
    const bool enters = (value & cr0::kPg) && (now.efer & efer::kLme);
    fault |= enters && !(now.cr4 & cr4::kPae);
    after.efer = enters ? now.efer | efer::kLma : now.efer & ~efer::kLma;
  }
  RegisterWrite w = finish(after, fault, rules::kMovCr);
  w.loads_pdptes = row_of(after) == kRowPae && (change & kCr0Loads);
  open_if_wide(w, now, value);
  return w;
}

RegisterWrite write_cr3(const Machine& machine, const Registers& now, std::uint64_t value) {
  Registers after = now;
  bool fault = false;
  if (long_mode(now)) {
    after.cr3 = now.cr4 & cr4::kPcide ? value & ~cr3::kNoFlush : value;
    fault = !cr3_is_legal(machine, after.cr3);
  } else {
    // The operand has 32 bits. Of those, which count is a matter of the mode; none is checked.
    after.cr3 = value & kLow32;
  }
  RegisterWrite w = finish(after, fault, rules::kMovCr);
  w.loads_pdptes = row_of(after) == kRowPae;
  return w;
}

RegisterWrite write_cr4(const Machine& machine, const Registers& now, std::uint64_t value) {
  Registers after = now;
  const std::uint64_t given = long_mode(now) ? value : value & kLow32;
  after.cr4 = given;
  bool fault = !cr4_is_legal(machine, given);
  const std::uint64_t change = given ^ now.cr4;
  if (change & given & cr4::kPcide) fault |= !long_mode(now) || (now.cr3 & cr3::kPcidMask);
  if (long_mode(now)) fault |= (change & (cr4::kPae | cr4::kLa57)) != 0;
  RegisterWrite w = finish(after, fault, rules::kMovCr);
  w.loads_pdptes = row_of(after) == kRowPae && (change & kCr4Loads);
  open_if_wide(w, now, value);
  return w;
}

RegisterWrite write_efer(const Machine& machine, const Registers& now, std::uint64_t value) {
  Registers after = now;
  // LMA follows LME and CR0.PG; what software writes there does not change it.
  after.efer = (value & ~efer::kLma) | (now.efer & efer::kLma);
  bool fault = !efer_is_legal(machine, value);
  fault |= ((value ^ now.efer) & efer::kLme) && (now.cr0 & cr0::kPg);
  RegisterWrite w = finish(after, fault, rules::kEfer);
  const bool lma_differs = ((value ^ now.efer) & efer::kLma) != 0;
  if (w.kind == Kind::kAccept && machine.vendor == Vendor::kAmd &&
      (lma_differs || (value & efer::kTce))) {
    w.kind = Kind::kOpen;
    w.rule = &rules::kEferAmd;
  }
  return w;
}

}  // namespace

RegisterWrite write_register(const Machine& machine, const Registers& now, Reg reg,
                             std::uint64_t value) {
  switch (reg) {
    case Reg::kCr0:
      return write_cr0(now, value);
    case Reg::kCr3:
      return write_cr3(machine, now, value);
    case Reg::kCr4:
      return write_cr4(machine, now, value);
    case Reg::kEfer:
      return write_efer(machine, now, value);
    case Reg::kPkru: {
      RegisterWrite w{Kind::kAccept, &rules::kProtectionKeys, now};
      w.after.pkru = static_cast<std::uint32_t>(value);
      if (!machine.has(feature::kPku) || !(now.cr4 & cr4::kPke)) w.kind = Kind::kNotThere;
      return w;
    }
    case Reg::kCpl: {
      RegisterWrite w{Kind::kAccept, &rules::kFresh, now};
      w.after.cpl = value == 3 ? 3 : 0;
      return w;
    }
    case Reg::kAc: {
      RegisterWrite w{Kind::kAccept, &rules::kFresh, now};
      w.after.ac = value != 0;
      return w;
    }
  }
  return {Kind::kNotThere, &rules::kFresh, now};
}

RegisterWrite set_registers(const Machine& machine, const Registers& now, const Op& op) {
  Registers after = now;
  // What the host does not name it leaves as it reads it.
  after.cr3 = cr3_as_read(now);
  if (op.gives(Field::kCr0)) after.cr0 = op.cr0;
  if (op.gives(Field::kCr3)) after.cr3 = op.cr3;
  if (op.gives(Field::kCr4)) after.cr4 = op.cr4;
  if (op.gives(Field::kEfer)) after.efer = op.efer;
  bool refused = after.cr0 >> 32 != 0 || !cr0_is_legal(after.cr0);
  refused |= !cr4_is_legal(machine, after.cr4) || !efer_is_legal(machine, after.efer);
  const bool should_be_long = (after.efer & efer::kLme) && (after.cr0 & cr0::kPg);
  refused |= should_be_long != long_mode(after);
  if (long_mode(after)) {
    refused |= !(after.cr4 & cr4::kPae) || !cr3_is_legal(machine, after.cr3);
  } else {
    refused |= (after.cr4 & cr4::kPcide) != 0;
    after.cr3 &= kLow32;
  }
  after.cr0 = cr0_kept(after.cr0);
  RegisterWrite w = finish(after, refused, rules::kSregs);
  w.loads_pdptes = row_of(after) == kRowPae;
  if (!refused && machine.vendor == Vendor::kAmd && (after.efer & ~now.efer & efer::kTce)) {
    w.kind = Kind::kOpen;
    w.rule = &rules::kEferAmd;
  }
  return w;
}

std::uint64_t cr3_as_read(const Registers& r) { return long_mode(r) ? r.cr3 : r.cr3 & kLow32; }

Registers after_init(const Registers& now, bool reset) {
  Registers after;
  const std::uint64_t caching = cr0::kCd | cr0::kNw;
  after.cr0 = cr0::kEt | (reset ? caching : now.cr0 & caching);
  after.cr3 = after.cr4 = after.efer = 0;
  after.pkru = reset ? 0 : now.pkru;
  return after;
}

Machine with_capabilities(const Machine& now, const Op& op) {
  Machine after = now;
  if (op.gives(Field::kFlags)) after.features = static_cast<std::uint32_t>(op.flags);
  if (op.gives(Field::kValue)) after.maxphyaddr = static_cast<std::uint8_t>(op.value);
  return after;
}

bool is_possible(const Machine& machine, const Registers& r, const PdpteRegisters* pdptes) {
  if (!cr4_is_legal(machine, r.cr4) || !efer_is_legal(machine, r.efer)) return false;
  // Outside IA-32e mode, too: what the register holds is in use once that mode is entered.
  if (!cr3_is_legal(machine, r.cr3)) return false;
  if (pdptes == nullptr) return true;
  for (const std::uint64_t entry : pdptes->entry)
    if ((entry & pte::kP) && (entry & pte::kAddressMask) >> machine.maxphyaddr != 0) return false;
  return true;
}

bool pdptes_fault(const EntryRules& pae, const PdpteRegisters& registers) {
  for (const std::uint64_t entry : registers.entry) {
    if ((entry & pte::kP) && pae.reserved(entry, 3)) return true;
  }
  return false;
}

bool invpcid_faults(const Registers& now, std::uint64_t type, std::uint64_t pcid,
                    std::uint64_t gva) {
  if (type > 3 || (pcid & ~cr3::kPcidMask)) return true;
  if (type <= 1 && !(now.cr4 & cr4::kPcide) && pcid != 0) return true;
  // "The processor uses the full 64 bits of the linear address even outside 64-bit mode"; canonical
  // for the linear addresses that the processor would then have.
  const PagingMode& mode = kModes[now.cr4 & cr4::kLa57 ? kRow5Level : kRow4Level];
  return type == 0 && !mode.canonical(gva);
}

}  // namespace twinwalk::oracle
