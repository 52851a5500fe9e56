#include <fmt/format.h>

#include "oracle/judge.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

Outcome plain(OutcomeKind kind) {
  Outcome o;
  o.kind = kind;
  return o;
}

}  // namespace

void judge_register(MachineState& state, const JudgeInput& in, Verdict& out) {
  using Kind = RegisterWrite::Kind;
  const Op& op = in.step->what;
  const OutcomeKind got = in.got->kind;
  const Registers now = state.vcpu(op.vcpu).registers;
  const RegisterWrite w = write_register(state.machine(), now, op.reg(), op.value);
  bool accepted = false;
  std::string_view allowed;
  switch (w.kind) {
    case Kind::kAccept:
      accepted = true;
      if (got != OutcomeKind::kDone) allowed = "done";
      break;
    case Kind::kGp:
      if (got != OutcomeKind::kGp) allowed = "#GP";
      break;
    case Kind::kLeavesMode:
      // Whoever looks at legality first raises #GP where it is also illegal; nothing changes either
      // way.
      if (got != OutcomeKind::kGp) allowed = "skip mode-not-supported";
      break;
    case Kind::kNotThere:
      allowed = "skip feature-not-supported";
      break;
    case Kind::kOpen:
      accepted = got == OutcomeKind::kDone;
      if (!accepted && got != OutcomeKind::kGp) {
        allowed = "done or #GP";
      } else {
        unspecified(out, *w.rule, "outcome", to_text(*in.got), "done or #GP");
      }
      break;
  }
  if (!allowed.empty()) {
    diverge(out, DivergenceClass::kWrongRegister, *w.rule, name_of(op.reg()), to_text(*in.got),
            std::string(allowed));
  }
  if (!accepted) return;
  const bool no_flush =
      op.reg() == Reg::kCr3 && (now.cr4 & cr4::kPcide) && (op.value & cr3::kNoFlush);
  state.registers_written(op.vcpu, op.reg(), w.after, no_flush);
}

void judge_invalidation(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  OutcomeKind want = OutcomeKind::kDone;
  if (op.verb == Verb::kInvpcid) {
    if (!state.machine().has(feature::kInvpcid)) {
      diverge(out, DivergenceClass::kWrongException, rules::kInvpcid, "outcome", to_text(*in.got),
              "skip feature-not-supported");
      return;
    }
    if (invpcid_faults(state.vcpu(op.vcpu).registers, op.type, op.pcid, op.gva))
      want = OutcomeKind::kGp;
  }
  if (in.got->kind != want) {
    diverge(out, DivergenceClass::kWrongException,
            op.verb == Verb::kInvpcid ? rules::kInvpcid : rules::kStale13, "outcome",
            to_text(*in.got), to_text(plain(want)));
  }
  if (want != OutcomeKind::kDone) return;
  if (op.verb == Verb::kInvlpg) {
    state.invlpg(op.vcpu, op.gva);
  } else {
    state.invpcid(op.vcpu, op.type, op.pcid, op.gva);
  }
}

}  // namespace twinwalk::oracle
