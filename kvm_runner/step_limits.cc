#include "kvm_runner/step_limits.h"

#include "kvm_runner/guest_memory.h"
#include "kvm_runner/layout.h"

namespace twinwalk::kvm {
namespace {

struct Cr4Feature {
  std::uint64_t mask;
  std::uint32_t feature;
};
constexpr Cr4Feature kCr4Features[] = {
    {cr4::kPse, feature::kPse},   {cr4::kPae, feature::kPae},    {cr4::kPge, feature::kPge},
    {cr4::kLa57, feature::kLa57}, {cr4::kPcide, feature::kPcid}, {cr4::kSmep, feature::kSmep},
    {cr4::kSmap, feature::kSmap}, {cr4::kPke, feature::kPku},
};

// Bits of CR4 for which a machine line has no word: VME, PVI, TSD, DE, PCE, OSFXSR, OSXMMEXCPT,
// UMIP, VMXE, SMXE, FSGSBASE, OSXSAVE. The trace's machine reserves them; the host's processor may
// have them. SDM 3A §"Control Registers".
constexpr std::uint64_t kCr4BesidePaging = 0x5'6f0f;

SkipReason why_not_feature(std::uint32_t feature, const Machine& machine, std::uint32_t host) {
  if (!machine.has(feature)) return SkipReason::kFeatureNotSupported;
  return (host & feature) == feature ? SkipReason::kNone : SkipReason::kHostLacksFeature;
}

bool leaves_4_level(const Op& op, const Registers& now) {
  switch (op.reg()) {
    case Reg::kCr0:
      return mode_of(op.value, now.cr4, now.efer) != Mode::k4Level;
    case Reg::kCr4:
      return mode_of(now.cr0, op.value, now.efer) != Mode::k4Level;
    case Reg::kEfer:
      return ((op.value ^ now.efer) & efer::kLme) != 0;
    default:
      return false;
  }
}

SkipReason why_not_pkru(const Machine& machine, const Registers& now, std::uint32_t host) {
  if ((now.cr4 & cr4::kPke) == 0) return SkipReason::kFeatureNotSupported;
  return why_not_feature(feature::kPku, machine, host);
}

SkipReason why_not_cr4(std::uint64_t value, const Machine& machine, std::uint32_t host) {
  if ((value & kCr4BesidePaging) != 0) return SkipReason::kHostLacksFeature;
  for (const Cr4Feature& f : kCr4Features) {
    const bool wanted = (value & f.mask) != 0 && machine.has(f.feature);
    if (wanted && (host & f.feature) == 0) return SkipReason::kHostLacksFeature;
  }
  return SkipReason::kNone;
}

// SVME of a guest whose KVM offers it no SVM.
SkipReason why_not_efer(std::uint64_t value, const Machine& machine, std::uint32_t host) {
  const bool wanted = (value & efer::kSvme) != 0 && machine.has(feature::kSvm);
  return wanted && (host & feature::kSvm) == 0 ? SkipReason::kHostLacksFeature : SkipReason::kNone;
}

SkipReason why_not_mov(const Op& op, const Machine& machine, const Registers& now,
                       const Host& host) {
  if (host.only_4_level() && leaves_4_level(op, now)) return SkipReason::kHostLacksFeature;
  if (op.reg() == Reg::kCr4) return why_not_cr4(op.value, machine, host.features());
  if (op.reg() == Reg::kEfer) return why_not_efer(op.value, machine, host.features());
  if (op.reg() == Reg::kPkru) return why_not_pkru(machine, now, host.features());
  return SkipReason::kNone;
}

SkipReason why_not_sregs(const Op& op, const Machine& machine, const Registers& now,
                         const Host& host) {
  const Registers after = with_sregs(op, now);
  if (host.only_4_level() && mode_of(after.cr0, after.cr4, after.efer) != Mode::k4Level)
    return SkipReason::kHostLacksFeature;
  const SkipReason reason = why_not_efer(after.efer, machine, host.features());
  return reason != SkipReason::kNone ? reason : why_not_cr4(after.cr4, machine, host.features());
}

// A trace that is a hypervisor: AMD's, with nested paging.
SkipReason why_not_nested(const Machine& machine, const Host& host) {
  if (machine.nested != Nesting::kNpt || machine.vendor != Vendor::kAmd)
    return SkipReason::kNestedNotSupported;
  // A hypervisor in PAE mode is one of 32-bit code: there is none.
  if (machine.host_levels < 4) return SkipReason::kModeNotSupported;
  // Room for the runner's pages in the guest's physical addresses (layout.h).
  const bool long_mode = machine.mode == Mode::k4Level || machine.mode == Mode::k5Level;
  const bool fits =
      !long_mode || machine.host_levels == 3 || kNestedBase >> machine.maxphyaddr == 0;
  std::uint32_t own = feature::kNx | feature::kSvm | feature::kPae;
  if (machine.host_levels == 5 || machine.mode == Mode::k5Level) own |= feature::kLa57;
  const bool has = (host.features() & own) == own && machine.has(feature::kNx | feature::kPae);
  return host.offers_nested_paging() && has && fits && machine.maxphyaddr <= host.maxphyaddr()
             ? SkipReason::kNone
             : SkipReason::kHostLacksFeature;
}

// Of a hypervisor or its guest.
SkipReason why_not_nested_step(const Op& op, const Machine& machine, const Registers& now,
                               const Host& host) {
  switch (op.verb) {
    case Verb::kMov:
      // The hypervisor's own processor has what its tables need.
      if (op.reg() == Reg::kCr4 && (op.value & cr4::kLa57) != 0 && !machine.has(feature::kLa57))
        return SkipReason::kHostLacksFeature;
      if (op.reg() == Reg::kEfer && (op.value & efer::kSvme) != 0 && !machine.has(feature::kSvm))
        return SkipReason::kHostLacksFeature;
      return why_not_mov(op, machine, now, host);
    case Verb::kGet:
      return op.reg() == Reg::kPkru ? why_not_pkru(machine, now, host.features())
                                    : SkipReason::kNone;
    case Verb::kInvpcid:
      return why_not_feature(feature::kInvpcid, machine, host.features());
    case Verb::kAccess: {
      // QEMU's walker: its A in PDPTEs would be reserved bits (Host::sets_a_in_pdptes).
      const bool pae = mode_of(now.cr0, now.cr4, now.efer) == Mode::kPae;
      return pae && host.sets_a_in_pdptes() ? SkipReason::kHostLacksFeature : SkipReason::kNone;
    }
    case Verb::kInvlpg:
    case Verb::kWrite:
    case Verb::kVmEnter:
    case Verb::kVmExit:
    case Verb::kInvlpga:
      return SkipReason::kNone;
    case Verb::kInvept:
    case Verb::kInvvpid:
    case Verb::kPmlGet:
      return SkipReason::kNestedNotSupported;
    default:
      return SkipReason::kVerbNotSupported;
  }
}

}  // namespace

SkipReason why_not_machine(const Machine& machine, const Host& host) {
  if (machine.core == Dimension::kBare) return why_not_nested(machine, host);
  if (machine.core != Dimension::kShadow || machine.nested != Nesting::kNone)
    return SkipReason::kModeNotSupported;
  if (machine.mode == Mode::k5Level && (host.features() & feature::kLa57) == 0)
    return SkipReason::kHostLacksFeature;
  return host.only_4_level() && machine.mode != Mode::k4Level ? SkipReason::kHostLacksFeature
                                                              : SkipReason::kNone;
}

SkipReason why_not(const Op& op, const Machine& machine, const Registers& now, const Host& host) {
  if (op.point != Point::kNone) return SkipReason::kInterleavingNotSupported;
  if (op.vcpu >= machine.vcpus) return SkipReason::kVcpuNotThere;
  if (machine.core == Dimension::kBare) return why_not_nested_step(op, machine, now, host);
  if (is_of_hypervisor(op.verb)) return SkipReason::kNestedNotSupported;
  switch (op.verb) {
    case Verb::kMov:
      return why_not_mov(op, machine, now, host);
    case Verb::kGet:
      return op.reg() == Reg::kPkru ? why_not_pkru(machine, now, host.features())
                                    : SkipReason::kNone;
    case Verb::kSregs:
      return why_not_sregs(op, machine, now, host);
    case Verb::kInit:
      return host.only_4_level() ? SkipReason::kHostLacksFeature : SkipReason::kNone;
    case Verb::kInvpcid:
      return why_not_feature(feature::kInvpcid, machine, host.features());
    case Verb::kSmm:
    case Verb::kAsyncDone:
    case Verb::kPrefault:
    case Verb::kNxRecover:
    case Verb::kTrack:
    case Verb::kAttributes:
    case Verb::kInvlpga:
    case Verb::kCpuid:
    case Verb::kCpu:
    case Verb::kMap:
    case Verb::kCount:
      return SkipReason::kVerbNotSupported;
    case Verb::kSlotAdd:
    case Verb::kSlotDelete:
    case Verb::kSlotMove:
    case Verb::kSlotFlags:
    case Verb::kDirtyGet:
    case Verb::kDirtyClear:
      return op.space ? SkipReason::kVerbNotSupported : SkipReason::kNone;
    default:
      return SkipReason::kNone;
  }
}

Registers with_sregs(const Op& op, const Registers& now) {
  Registers after = now;
  if (op.gives(Field::kCr0)) after.cr0 = op.cr0;
  if (op.gives(Field::kCr3)) after.cr3 = op.cr3;
  if (op.gives(Field::kCr4)) after.cr4 = op.cr4;
  if (op.gives(Field::kEfer)) after.efer = op.efer;
  return after;
}

bool sets_lacked_cr4_bit(std::uint64_t value, const Machine& machine) {
  for (const Cr4Feature& f : kCr4Features) {
    if ((value & f.mask) != 0 && !machine.has(f.feature)) return true;
  }
  return false;
}

std::uint64_t operand_of(const Op& op, const Registers& registers) {
  const bool is_cr = op.reg() == Reg::kCr0 || op.reg() == Reg::kCr3 || op.reg() == Reg::kCr4;
  return is_cr && is_legacy(registers) ? op.value & 0xffff'ffff : op.value;
}

void adopt_register(const Op& op, Registers& registers) {
  const std::uint64_t value = operand_of(op, registers);
  switch (op.reg()) {
    case Reg::kCr0:
      registers.cr0 = value | cr0::kEt;
      registers.efer &= ~efer::kLma;
      if ((value & cr0::kPg) != 0 && (registers.efer & efer::kLme) != 0)
        registers.efer |= efer::kLma;
      return;
    case Reg::kCr3:
      registers.cr3 = (registers.cr4 & cr4::kPcide) != 0 ? value & ~cr3::kNoFlush : value;
      return;
    case Reg::kCr4:
      registers.cr4 = value;
      return;
    case Reg::kEfer:
      registers.efer = (op.value & ~efer::kLma) | (registers.efer & efer::kLma);
      return;
    case Reg::kPkru:
      registers.pkru = static_cast<std::uint32_t>(op.value);
      return;
    case Reg::kCpl:
      registers.cpl = op.value == 3 ? 3 : 0;
      return;
    case Reg::kAc:
      registers.ac = op.value != 0;
      return;
  }
}

}  // namespace twinwalk::kvm
