#include "oracle/judge.h"

#include <utility>

#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

const Rule& rule_of(Complaint complaint) {
  switch (complaint) {
    case Complaint::kEscape:
    case Complaint::kTableFreedInUse:
      return rules::kVirtual30;
    case Complaint::kLiveness:
      return rules::kVirtual33;
    default:
      return rules::kOwnChecks;
  }
}

// What the trace does as hypervisor, where it is one.
bool is_hypervisors(Verb verb) {
  switch (verb) {
    case Verb::kVmEnter:
    case Verb::kVmExit:
    case Verb::kInvept:
    case Verb::kInvvpid:
    case Verb::kInvlpga:
    case Verb::kPmlGet:
      return true;
    default:
      return false;
  }
}

void judge_by_verb(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out) {
  const bool bare = state.machine().core == Dimension::kBare;
  if (bare && is_hypervisors(in.step->what.verb)) return judge_hypervisor(state, in, out);
  switch (in.step->what.verb) {
    case Verb::kAccess:
      if (state.vcpu(in.step->what.vcpu).guest.active()) [[unlikely]]
        return judge_guest_access(state, in, counters, out);
      return judge_access(state, in, counters, out);
    case Verb::kMov:
      return judge_register(state, in, out);
    case Verb::kSregs:
      return judge_sregs(state, in, out);
    case Verb::kInvlpg:
    case Verb::kInvpcid:
      return judge_invalidation(state, in, out);
    case Verb::kSmm:
    case Verb::kInit:
    case Verb::kCpuid:
    case Verb::kNewVcpu:
    case Verb::kGet:
    case Verb::kInvlpga:
      return judge_vcpu(state, in, out);
    default:
      return judge_host(state, in, out);
  }
}

}  // namespace

bool ended_as(const JudgeInput& in, OutcomeKind want, const Rule& rule, Verdict& out) {
  if (in.got->kind == want) return true;
  Outcome wanted;
  wanted.kind = want;
  diverge(out, DivergenceClass::kWrongException, rule, "outcome", to_text(*in.got),
          to_text(wanted));
  return false;
}

std::string_view field_of(DivergenceClass divergence, std::string_view fault_address) {
  switch (divergence) {
    case DivergenceClass::kWrongErrorCode:
      return "error-code";
    case DivergenceClass::kWrongFaultAddress:
      return fault_address;
    case DivergenceClass::kWrongValue:
      return "value";
    case DivergenceClass::kWrongFrame:
      return "gpa";
    default:
      return "outcome";
  }
}

void diverge(Verdict& out, DivergenceClass divergence, const Rule& rule, std::string_view field,
             std::string got, std::string allowed) {
  out.kind = VerdictKind::kDiverge;
  out.divergence = divergence;
  out.rule = &rule;
  out.field = field;
  out.got = std::move(got);
  out.allowed = std::move(allowed);
}

void unspecified(Verdict& out, const Rule& rule, std::string_view field, std::string got,
                 std::string allowed) {
  diverge(out, DivergenceClass::kNone, rule, field, std::move(got), std::move(allowed));
  out.kind = VerdictKind::kUnspecified;
}

namespace {

// For the guest a memory fault is as if a device answered; that it is one where the address is of
// the other kind, and nowhere else, is a matter of its own.
void judge_exit(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out) {
  const Outcome& got = *in.got;
  const Op& op = in.step->what;
  const bool store = op.verb == Verb::kWrite && in_identity_map(state.machine(), op.gpa);
  if (store || in_identity_map(state.machine(), got.gpa[0]) ||
      in_identity_map(state.machine(), got.gpa[1]))
    return unspecified(out, rules::kIdentityMap, "outcome", to_text(got), "not defined");
  const bool fault = got.kind == OutcomeKind::kMemoryFault;
  if (!fault && got.kind != OutcomeKind::kMmio) return judge_by_verb(state, in, counters, out);
  const bool other_kind = state.of_other_kind(got.gpa[0]);
  Outcome as_device = got;
  as_device.kind = OutcomeKind::kMmio;
  JudgeInput same = in;
  same.got = &as_device;
  judge_by_verb(state, same, counters, out);
  if (fault == other_kind || out.kind != VerdictKind::kAgree) return;
  Outcome want = got;
  want.kind = other_kind ? OutcomeKind::kMemoryFault : OutcomeKind::kMmio;
  diverge(out, DivergenceClass::kWrongMmio, rules::kPrivate, "outcome", to_text(got),
          to_text(want));
}

}  // namespace

void judge_step(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out) {
  const Outcome& got = *in.got;
  state.tick();
  if (got.kind == OutcomeKind::kSkip) {
    out.kind = VerdictKind::kSkip;
    out.got = name_of(got.reason);
  } else if (in.step->what.vcpu >= state.machine().vcpus) {
    diverge(out, DivergenceClass::kWrongException, rules::kMode, "outcome", to_text(got),
            "skip: no such vCPU");
  } else {
    state.look_as(in.step->what.vcpu);
    judge_exit(state, in, counters, out);
  }
  if (got.complaint != Complaint::kNone) {
    // What the subject found in itself tells more than what became visible of it.
    diverge(out, class_of(got.complaint), rule_of(got.complaint), "complaint",
            std::string(name_of(got.complaint)), "none");
  }
  if (out.kind == VerdictKind::kUnspecified) ++counters.unspecified;
}

}  // namespace twinwalk::oracle
