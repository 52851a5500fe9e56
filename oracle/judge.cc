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
    judge_by_verb(state, in, counters, out);
  }
  if (got.complaint != Complaint::kNone) {
    // What the subject found in itself tells more than what became visible of it.
    diverge(out, class_of(got.complaint), rule_of(got.complaint), "complaint",
            std::string(name_of(got.complaint)), "none");
  }
  if (out.kind == VerdictKind::kUnspecified) ++counters.unspecified;
}

}  // namespace twinwalk::oracle
