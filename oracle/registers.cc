#include "oracle/registers.h"

#include "oracle/paging.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

using Kind = RegisterWrite::Kind;

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

bool stays_in_mode(const Registers& r) { return mode_of(r.cr0, r.cr4, r.efer) == Mode::k4Level; }

RegisterWrite finish(const Registers& after, bool fault, const Rule& rule) {
  RegisterWrite w;
  w.after = after;
  w.rule = &rule;
  w.kind = !stays_in_mode(after) ? Kind::kLeavesMode : fault ? Kind::kGp : Kind::kAccept;
  return w;
}

RegisterWrite write_cr0(const Registers& now, std::uint64_t value) {
  Registers after = now;
  // Reserved bits 31:0 are ignored, ET is fixed to 1.
  after.cr0 = (value & named(cr0::kNames)) | cr0::kEt;
  bool fault = value >> 32 != 0;
  fault |= (value & cr0::kPg) && !(value & cr0::kPe);
  fault |= (value & cr0::kNw) && !(value & cr0::kCd);
  fault |= !(value & cr0::kPg) && (now.cr4 & cr4::kPcide);
  return finish(after, fault, rules::kMovCr);
}

RegisterWrite write_cr3(const Machine& machine, const Registers& now, std::uint64_t value) {
  Registers after = now;
  const bool pcide = now.cr4 & cr4::kPcide;
  after.cr3 = pcide ? value & ~cr3::kNoFlush : value;
  return finish(after, after.cr3 >> machine.maxphyaddr != 0, rules::kMovCr);
}

RegisterWrite write_cr4(const Machine& machine, const Registers& now, std::uint64_t value) {
  Registers after = now;
  after.cr4 = value;
  bool fault = (value & ~named(cr4::kNames)) != 0;
  for (const FeatureBit& f : kCr4Features) fault |= (value & f.mask) && !machine.has(f.feature);
  const std::uint64_t change = value ^ now.cr4;
  const bool long_mode = now.efer & efer::kLma;
  if (change & value & cr4::kPcide) fault |= !long_mode || (now.cr3 & cr3::kPcidMask);
  if (long_mode) fault |= (change & (cr4::kPae | cr4::kLa57)) != 0;
  return finish(after, fault, rules::kMovCr);
}

RegisterWrite write_efer(const Machine& machine, const Registers& now, std::uint64_t value) {
  Registers after = now;
  // LMA follows LME and CR0.PG; what software writes there does not change it.
  after.efer = (value & ~efer::kLma) | (now.efer & efer::kLma);
  const bool amd = machine.vendor == Vendor::kAmd;
  bool fault = (value & ~named(efer::kNames)) != 0;
  fault |= (value & efer::kNxe) && !machine.has(feature::kNx);
  fault |= (value & (efer::kSvme | efer::kTce)) != 0 && !amd;
  const bool lme_change = ((value ^ now.efer) & efer::kLme) != 0;
  fault |= lme_change && (now.cr0 & cr0::kPg);
  if (lme_change) {
    after.efer = now.efer & ~efer::kLme;
    RegisterWrite w = finish(now, fault, rules::kEfer);
    w.kind = Kind::kLeavesMode;
    return w;
  }
  RegisterWrite w = finish(after, fault, rules::kEfer);
  const bool lma_differs = ((value ^ now.efer) & efer::kLma) != 0;
  if (w.kind == Kind::kAccept && amd && (lma_differs || (value & (efer::kSvme | efer::kTce)))) {
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

bool invpcid_faults(const Registers& now, std::uint64_t type, std::uint64_t pcid,
                    std::uint64_t gva) {
  if (type > 3 || (pcid & ~cr3::kPcidMask)) return true;
  if (type <= 1 && !(now.cr4 & cr4::kPcide) && pcid != 0) return true;
  const PagingMode* mode = find_mode(mode_of(now.cr0, now.cr4, now.efer));
  return type == 0 && mode != nullptr && !mode->canonical(gva);
}

}  // namespace twinwalk::oracle
