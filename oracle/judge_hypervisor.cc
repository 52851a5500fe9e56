// Bare machines: what the trace does as hypervisor.

#include <fmt/format.h>

#include <vector>

#include "oracle/judge.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

bool ept(const MachineState& state) { return state.machine().nested == Nesting::kEpt; }
bool npt(const MachineState& state) { return state.machine().nested == Nesting::kNpt; }

void not_there(const JudgeInput& in, const Rule& rule, Verdict& out) {
  diverge(out, DivergenceClass::kWrongException, rule, "outcome", to_text(*in.got),
          "skip nested-not-supported");
}

// Whether it ended as `fails` says.
bool succeeds(const JudgeInput& in, bool fails, const Rule& rule, Verdict& out) {
  ended_as(in, fails ? OutcomeKind::kVmFail : OutcomeKind::kDone, rule, out);
  return !fails;
}

void enter_on_ept(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  if (!succeeds(in, eptp_fault(state.machine(), op.value) != nullptr, rules::kEptp, out)) return;
  state.vm_entered(op.vcpu,
                   {op.value & pte::kAddressMask, make_ept_format(state.machine(), op.value)},
                   static_cast<unsigned>(op.pcid));
}

// TLB_CONTROL, APM 2 §"TLB Control".
void drop_by_tlb_control(MachineState& state, unsigned vcpu, unsigned asid, std::uint64_t control) {
  VcpuState& v = state.vcpu(vcpu);
  Drop d{.time = state.now(), .rule = &rules::kTlbControl};
  if (control == 1) v.history.drop_everything(state.now(), rules::kTlbControl);
  if (control != 1) d.vpid = asid;
  d.keeps_globals = control == 7;
  v.guest.drop(d);
  d.what = Drop::What::kGuestPhysical;
  v.guest.drop(d);
}

void enter_on_npt(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  const NestedFormat format = make_npt_format(state.machine());
  const std::uint64_t mask = format.levels == 3 ? kModes[kRowPae].root_mask : pte::kAddressMask;
  const unsigned asid = static_cast<unsigned>(op.pcid);
  const bool known_control = op.type == 0 || op.type == 1 || op.type == 3 || op.type == 7;
  const bool beyond = format.levels > 3 && (op.value >> state.machine().host_maxphyaddr) != 0;
  if (asid != 0 && (!known_control || beyond)) {
    const OutcomeKind got = in.got->kind;
    if (got != OutcomeKind::kDone && got != OutcomeKind::kVmFail)
      return diverge(out, DivergenceClass::kWrongException, rules::kVmrun, "outcome",
                     to_text(*in.got), "done or vm-fail");
    unspecified(out, rules::kVmrun, "outcome", to_text(*in.got), "done or vm-fail");
    if (got == OutcomeKind::kVmFail) return;
  } else if (!succeeds(in, asid == 0, rules::kVmrun, out)) {
    return;
  }
  if (known_control && op.type != 0) drop_by_tlb_control(state, op.vcpu, asid, op.type);
  state.vm_entered(op.vcpu, {op.value & mask, format}, asid);
}

void judge_vm_enter(MachineState& state, const JudgeInput& in, Verdict& out) {
  if (ept(state)) return enter_on_ept(state, in, out);
  if (npt(state)) return enter_on_npt(state, in, out);
  not_there(in, rules::kEptp, out);
}

void judge_invept(MachineState& state, const JudgeInput& in, Verdict& out) {
  if (!ept(state)) return not_there(in, rules::kInvept, out);
  const Op& op = in.step->what;
  const bool fails = op.type < 1 || op.type > 2 ||
                     (op.type == 1 && eptp_fault(state.machine(), op.value) != nullptr);
  if (!succeeds(in, fails, rules::kInvept, out)) return;
  Drop d{.time = state.now(), .rule = &rules::kInvept};
  if (op.type == 1) d.ep4ta = op.value & pte::kAddressMask;
  GuestState& guest = state.vcpu(op.vcpu).guest;
  guest.drop(d);
  d.what = Drop::What::kGuestPhysical;
  guest.drop(d);
}

void judge_invvpid(MachineState& state, const JudgeInput& in, Verdict& out) {
  if (!ept(state)) return not_there(in, rules::kInvvpid, out);
  const Op& op = in.step->what;
  const PagingMode& mode =
      kModes[state.vcpu(op.vcpu).registers.cr4 & cr4::kLa57 ? kRow5Level : kRow4Level];
  const bool fails = op.type > 3 || (op.type != 2 && op.pcid == 0) || op.pcid > 0xffff ||
                     (op.type == 0 && !mode.canonical(op.gva));
  if (!succeeds(in, fails, rules::kInvvpid, out)) return;
  Drop d{.time = state.now(), .rule = &rules::kInvvpid};
  if (op.type == 2) {
    d.except_vpid = 0;
  } else {
    d.vpid = op.pcid;
  }
  if (op.type == 0) d.page = op.gva, d.bytes = kPageBytes;
  d.keeps_globals = op.type == 3;
  state.vcpu(op.vcpu).guest.drop(d);
}

// The hypervisor's own: it runs with EFER.SVME=1, whatever the guest's EFER is.
void judge_invlpga(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  VcpuState& v = state.vcpu(op.vcpu);
  const bool there = npt(state) || (v.registers.efer & efer::kSvme);
  ended_as(in, there ? OutcomeKind::kDone : OutcomeKind::kUd, rules::kInvlpga, out);
  if (!there) return;
  const auto asid = static_cast<std::uint32_t>(op.value);
  if (asid == 0) {
    if (!v.guest.active()) state.invlpg(op.vcpu, op.gva);
    return;
  }
  v.guest.drop({.time = state.now(),
                .rule = &rules::kInvlpga,
                .vpid = asid,
                .page = kModes[row_of(v.registers)].linear(op.gva),
                .bytes = kPageBytes});
}

// Whether `got` is the log with some of its uncertain entries left out.
bool log_fits(const std::vector<PmlEntry>& log, const std::uint64_t* got, std::size_t count) {
  std::vector<bool> reached(count + 1, false);  // so much of `got` is explained by the log so far
  reached[0] = true;
  for (const PmlEntry& entry : log) {
    for (std::size_t i = count; i + 1 > 0; --i) {
      const bool by_entry = i > 0 && reached[i - 1] && got[i - 1] == entry.gpa;
      reached[i] = by_entry || (reached[i] && !entry.certain);
      if (i == 0) break;
    }
  }
  return reached[count];
}

void judge_pml_get(MachineState& state, const JudgeInput& in, Verdict& out) {
  if (!ept(state) || !(state.machine().tdp & tdp::kPml)) return not_there(in, rules::kPml, out);
  std::vector<PmlEntry>& log = state.vcpu(in.step->what.vcpu).guest.log;
  if (ended_as(in, OutcomeKind::kDone, rules::kPml, out)) {
    const std::uint64_t* got = in.extra + in.got->extra_begin;
    if (!log_fits(log, got, in.got->extra_count)) {
      std::string shown, want;
      for (std::uint32_t i = 0; i < in.got->extra_count; ++i)
        shown += fmt::format("{}{:#x}", i == 0 ? "" : " ", got[i]);
      for (const PmlEntry& e : log)
        want += fmt::format("{}{:#x}{}", want.empty() ? "" : " ", e.gpa, e.certain ? "" : "?");
      diverge(out, DivergenceClass::kLostDirtyLog, rules::kPml, "page-modification-log", shown,
              want);
    }
  }
  log.clear();
}

}  // namespace

void judge_hypervisor(MachineState& state, const JudgeInput& in, Verdict& out) {
  switch (in.step->what.verb) {
    case Verb::kVmEnter:
      return judge_vm_enter(state, in, out);
    case Verb::kVmExit:
      if (ended_as(in, OutcomeKind::kDone, rules::kVpid, out) &&
          state.vcpu(in.step->what.vcpu).guest.active())
        state.vm_exited(in.step->what.vcpu);
      return;
    case Verb::kInvept:
      return judge_invept(state, in, out);
    case Verb::kInvvpid:
      return judge_invvpid(state, in, out);
    case Verb::kInvlpga:
      return judge_invlpga(state, in, out);
    default:
      return judge_pml_get(state, in, out);
  }
}

}  // namespace twinwalk::oracle
