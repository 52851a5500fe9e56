#include "kvm_runner/step_limits.h"

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

SkipReason why_not_feature(std::uint32_t feature, const Machine& machine, std::uint32_t host) {
  if (!machine.has(feature)) return SkipReason::kFeatureNotSupported;
  return (host & feature) == feature ? SkipReason::kNone : SkipReason::kHostLacksFeature;
}

bool leaves_mode(const Op& op, const Registers& now) {
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

SkipReason why_not_mov(const Op& op, const Machine& machine, const Registers& now,
                       std::uint32_t host) {
  if (leaves_mode(op, now)) return SkipReason::kModeNotSupported;
  if (op.reg() == Reg::kCr4) {
    for (const Cr4Feature& f : kCr4Features) {
      const bool wanted = (op.value & f.mask) != 0 && machine.has(f.feature);
      if (wanted && (host & f.feature) == 0) return SkipReason::kHostLacksFeature;
    }
  }
  if (op.reg() == Reg::kPkru) {
    if ((now.cr4 & cr4::kPke) == 0) return SkipReason::kFeatureNotSupported;
    return why_not_feature(feature::kPku, machine, host);
  }
  return SkipReason::kNone;
}

}  // namespace

SkipReason why_not_machine(const Machine& machine) {
  return machine.mode != Mode::k4Level || machine.host_levels > 4 ? SkipReason::kModeNotSupported
                                                                  : SkipReason::kNone;
}

SkipReason why_not(const Op& op, const Machine& machine, const Registers& now, std::uint32_t host) {
  if (op.point != Point::kNone) return SkipReason::kInterleavingNotSupported;
  if (op.vcpu >= machine.vcpus) return SkipReason::kVcpuNotThere;
  if (why_not_machine(machine) != SkipReason::kNone) return why_not_machine(machine);
  if (is_of_hypervisor(op.verb)) return SkipReason::kNestedNotSupported;
  switch (op.verb) {
    case Verb::kMov:
      return why_not_mov(op, machine, now, host);
    case Verb::kInvpcid:
      return why_not_feature(feature::kInvpcid, machine, host);
    case Verb::kInit:
    case Verb::kSmm:
    case Verb::kAsyncDone:
    case Verb::kDirtyClear:
    case Verb::kPrefault:
    case Verb::kNxRecover:
    case Verb::kTrack:
    case Verb::kAttributes:
    case Verb::kGet:
    case Verb::kInvlpga:
    case Verb::kSregs:
    case Verb::kCpuid:
    case Verb::kNewVcpu:
    case Verb::kCpu:
    case Verb::kMap:
    case Verb::kCount:
      return SkipReason::kVerbNotSupported;
    case Verb::kSlotAdd:
    case Verb::kSlotDelete:
    case Verb::kSlotMove:
    case Verb::kSlotFlags:
    case Verb::kDirtyGet:
      return op.space ? SkipReason::kVerbNotSupported : SkipReason::kNone;
    default:
      return SkipReason::kNone;
  }
}

bool sets_lacked_cr4_bit(std::uint64_t value, const Machine& machine) {
  for (const Cr4Feature& f : kCr4Features) {
    if ((value & f.mask) != 0 && !machine.has(f.feature)) return true;
  }
  return false;
}

void adopt_register(const Op& op, Registers& registers) {
  switch (op.reg()) {
    case Reg::kCr0:
      registers.cr0 = op.value | cr0::kEt;
      return;
    case Reg::kCr3:
      registers.cr3 = (registers.cr4 & cr4::kPcide) != 0 ? op.value & ~cr3::kNoFlush : op.value;
      return;
    case Reg::kCr4:
      registers.cr4 = op.value;
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
