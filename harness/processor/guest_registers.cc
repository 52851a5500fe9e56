#include "harness/processor/guest_registers.h"

#include "harness/processor/guest_format.h"

namespace twinwalk::processor {
namespace {

constexpr std::uint64_t kCr0Known = cr0::kPe | cr0::kMp | cr0::kEm | cr0::kTs | cr0::kEt |
                                    cr0::kNe | cr0::kWp | cr0::kAm | cr0::kNw | cr0::kCd | cr0::kPg;
constexpr std::uint64_t kLow = 0xffff'ffff;

bool in_long_mode(const Registers& r) { return r.efer & efer::kLma; }

// The bits of CR4 that this processor has.
std::uint64_t cr4_known(const Machine& m) {
  std::uint64_t known = cr4::kMce;
  const auto add = [&](std::uint32_t what, std::uint64_t bits) {
    if (m.has(what)) known |= bits;
  };
  add(feature::kPse, cr4::kPse);
  add(feature::kPae, cr4::kPae);
  add(feature::kPge, cr4::kPge);
  add(feature::kLa57, cr4::kLa57);
  add(feature::kPcid, cr4::kPcide);
  add(feature::kSmep, cr4::kSmep);
  add(feature::kSmap, cr4::kSmap);
  add(feature::kPku, cr4::kPke);
  return known;
}

// SDM 3A §"Extended Feature Enable Register"; APM 2 §"Extended Feature Enable Register (EFER)".
std::uint64_t efer_known(const Machine& m) {
  std::uint64_t known = efer::kSce | efer::kLme | efer::kLma;
  if (m.has(feature::kNx)) known |= efer::kNxe;
  if (m.vendor == Vendor::kAmd) known |= efer::kTce | (m.has(feature::kSvm) ? efer::kSvme : 0);
  return known;
}

bool take_cr0(Registers& r, std::uint64_t value) {
  if (in_long_mode(r) && value >> 32) return false;
  const bool paging = value & cr0::kPg, was = r.cr0 & cr0::kPg;
  if (paging && !(value & cr0::kPe)) return false;
  if ((value & cr0::kNw) && !(value & cr0::kCd)) return false;
  if (!paging && (r.cr4 & cr4::kPcide)) return false;
  if (paging && !was && (r.efer & efer::kLme)) {
    if (!(r.cr4 & cr4::kPae)) return false;
    r.efer |= efer::kLma;
  }
  if (!paging) r.efer &= ~efer::kLma;
  r.cr0 = (value & kCr0Known) | cr0::kEt;
  return true;
}

bool take_cr3(Registers& r, std::uint64_t value, unsigned maxphyaddr) {
  if (!in_long_mode(r)) {
    r.cr3 = value & kLow;
    return true;
  }
  if (r.cr4 & cr4::kPcide) value &= ~cr3::kNoFlush;
  if (value >> maxphyaddr) return false;
  r.cr3 = value;
  return true;
}

bool take_cr4(Registers& r, std::uint64_t value, std::uint64_t known) {
  if (!in_long_mode(r)) value &= kLow;
  if (value & ~known) return false;
  const std::uint64_t changed = value ^ r.cr4;
  if (changed & value & cr4::kPcide) {
    if (!in_long_mode(r) || (r.cr3 & cr3::kPcidMask)) return false;
  }
  if (in_long_mode(r) && (changed & (cr4::kPae | cr4::kLa57))) return false;
  r.cr4 = value;
  return true;
}

bool take_efer(Registers& r, std::uint64_t value, std::uint64_t known) {
  if (value & ~known) return false;
  if (((value ^ r.efer) & efer::kLme) && (r.cr0 & cr0::kPg)) return false;
  r.efer = (value & ~efer::kLma) | (r.efer & efer::kLma);
  return true;
}

bool loads_pdptes(const Registers& before, const Registers& after, Reg reg) {
  if (guest_mode(after) != kThree) return false;
  switch (reg) {
    case Reg::kCr3:
      return true;
    case Reg::kCr0:
      return (before.cr0 ^ after.cr0) & (cr0::kCd | cr0::kNw | cr0::kPg);
    case Reg::kCr4:
      return (before.cr4 ^ after.cr4) & (cr4::kPae | cr4::kPge | cr4::kPse | cr4::kSmep);
    default:
      return false;
  }
}

}  // namespace

RegisterAnswer write_guest_register(const Machine& machine, const Registers& before, Reg reg,
                                    std::uint64_t value) {
  RegisterAnswer answer;
  Registers& r = answer.after = before;
  bool taken = true;
  switch (reg) {
    case Reg::kCr0:
      taken = take_cr0(r, value);
      break;
    case Reg::kCr3:
      taken = take_cr3(r, value, machine.maxphyaddr);
      break;
    case Reg::kCr4:
      taken = take_cr4(r, value, cr4_known(machine));
      break;
    case Reg::kEfer:
      taken = take_efer(r, value, efer_known(machine));
      break;
    case Reg::kPkru:
      if (!machine.has(feature::kPku) || !(before.cr4 & cr4::kPke)) {
        answer.kind = RegisterAnswer::Kind::kNotThere;
        return answer;
      }
      r.pkru = static_cast<std::uint32_t>(value);
      break;
    case Reg::kCpl:
      r.cpl = value == 3 ? 3 : 0;
      break;
    case Reg::kAc:
      r.ac = value != 0;
      break;
  }
  if (!taken) answer.kind = RegisterAnswer::Kind::kGeneralProtection;
  answer.loads_pdptes = taken && machine.vendor == Vendor::kIntel && loads_pdptes(before, r, reg);
  return answer;
}

TlbEffect effect_of_write(Vendor vendor, const Registers& before, const Registers& after, Reg reg,
                          std::uint64_t value) {
  using Kind = TlbEffect::Kind;
  const std::uint64_t cr0 = before.cr0 ^ after.cr0, cr4 = before.cr4 ^ after.cr4;
  switch (reg) {
    case Reg::kCr0:
      return {cr0 & cr0::kPg ? Kind::kEverything : Kind::kNone, 0};
    case Reg::kCr3:
      if ((before.cr4 & cr4::kPcide) && (value & cr3::kNoFlush)) return {};
      return {Kind::kPcid, pcid_of(after)};
    case Reg::kCr4: {
      std::uint64_t all = cr4 & (cr4::kPge | cr4::kPae | cr4::kPse);
      all |= cr4 & before.cr4 & cr4::kPcide;
      // Intel: of the current PCID at least. AMD does not name SMEP, but keys.
      all |= cr4 & after.cr4 & (vendor == Vendor::kAmd ? cr4::kPke : cr4::kSmep);
      return {all ? Kind::kEverything : Kind::kNone, 0};
    }
    default:
      return {};
  }
}

bool invpcid_is_refused(const Registers& r, std::uint64_t type, std::uint64_t pcid,
                        std::uint64_t gva) {
  if (type > 3 || pcid >> 12) return true;
  if (type < 2 && pcid && !(r.cr4 & cr4::kPcide)) return true;
  return type == 0 && !is_canonical(gva, r.cr4 & cr4::kLa57 ? 57 : 48);
}

}  // namespace twinwalk::processor
