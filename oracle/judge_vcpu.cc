// Events of a whole vCPU: SMM, INIT, capabilities, one that is made anew; and what asks about it.

#include <fmt/format.h>

#include "harness/trace/schema.h"
#include "oracle/judge.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

// A vCPU that is made anew has the registers of the machine's mode: what those need cannot go.
bool can_start(Machine machine) {
  const Machine before = machine;
  reconcile(machine);
  return machine == before;
}

// `doubtful`: whether PDPTE registers of which nobody knows if they are present count as present.
bool cpuid_is_accepted(const MachineState& state, const Machine& after, bool doubtful) {
  if (!can_start(after) || shared_bit(after) != shared_bit(state.machine())) return false;
  for (unsigned i = 0; i < after.vcpus; ++i) {
    const VcpuState& v = state.vcpu(i);
    const bool latched = state.latches_pdptes() && row_of(v.registers) == kRowPae;
    PdpteRegisters pdptes = v.pdptes;
    for (unsigned n = 0; n < 4 && !doubtful; ++n) {
      if (pdptes.doubtful >> n & 1) pdptes.entry[n] = 0;
    }
    if (!is_possible(after, v.registers, latched ? &pdptes : nullptr)) return false;
  }
  return true;
}

// The change was accepted: a doubtful PDPTE register that would have forbidden it is not present.
void settle_pdptes(MachineState& state, const Machine& after) {
  for (unsigned i = 0; i < after.vcpus; ++i) {
    const VcpuState& v = state.vcpu(i);
    for (unsigned n = 0; n < 4; ++n) {
      PdpteRegisters alone;
      alone.entry[n] = v.pdptes.entry[n];
      const bool doubtful = (v.pdptes.doubtful >> n & 1) != 0;
      if (doubtful && row_of(v.registers) == kRowPae && !is_possible(after, v.registers, &alone))
        state.settle_pdpte(i, n, false);
    }
  }
}

void judge_smm(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  const bool enters = op.value != 0;
  ended_as(in, OutcomeKind::kDone, rules::kSmm, out);
  if (state.vcpu(op.vcpu).smm != enters) state.smm_changed(op.vcpu, enters);
}

void judge_cpuid(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Machine after = with_capabilities(state.machine(), in.step->what);
  const bool if_present = cpuid_is_accepted(state, after, true);
  const bool open = !if_present && cpuid_is_accepted(state, after, false);
  const bool accepted = open ? in.got->kind == OutcomeKind::kDone : if_present;
  ended_as(in, accepted ? OutcomeKind::kDone : OutcomeKind::kRefused, rules::kCpuid, out);
  if (!accepted) return;
  if (open) settle_pdptes(state, after);
  state.capabilities_changed(after);
}

void judge_get(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  const Registers& r = state.vcpu(op.vcpu).registers;
  if (op.reg() == Reg::kPkru && (!state.machine().has(feature::kPku) || !(r.cr4 & cr4::kPke))) {
    diverge(out, DivergenceClass::kWrongException, rules::kGet, "outcome", to_text(*in.got),
            "skip feature-not-supported");
    return;
  }
  if (!ended_as(in, OutcomeKind::kOk, rules::kGet, out)) return;
  const std::uint64_t want = op.reg() == Reg::kCr3 ? cr3_as_read(r) : value_of(r, op.reg());
  if (in.got->value == want) return;
  diverge(out, DivergenceClass::kWrongRegister, rules::kGet, name_of(op.reg()),
          fmt::format("{:#x}", in.got->value), fmt::format("{:#x}", want));
}

void judge_invlpga(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  const bool there = state.vcpu(op.vcpu).registers.efer & efer::kSvme;
  ended_as(in, there ? OutcomeKind::kDone : OutcomeKind::kUd, rules::kInvlpga, out);
  if (there && static_cast<std::uint32_t>(op.value) == 0) state.invlpg(op.vcpu, op.gva);
}

}  // namespace

void judge_vcpu(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  switch (op.verb) {
    case Verb::kSmm:
      return judge_smm(state, in, out);
    case Verb::kInit:
      ended_as(in, OutcomeKind::kDone, rules::kInit, out);
      return state.initialised(op.vcpu, op.type != 0);
    case Verb::kNewVcpu:
      ended_as(in, OutcomeKind::kDone, rules::kNewVcpu, out);
      return state.recreated(op.vcpu);
    case Verb::kCpuid:
      return judge_cpuid(state, in, out);
    case Verb::kGet:
      return judge_get(state, in, out);
    default:
      return judge_invlpga(state, in, out);
  }
}

}  // namespace twinwalk::oracle
