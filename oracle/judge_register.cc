#include <fmt/format.h>

#include <algorithm>

#include "oracle/judge.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

// PAE's PDPTEs, as a write loads them where they are registers.
struct PdpteLoad {
  bool due = false;
  bool exited = false;  // to the hypervisor, on the way to them: nothing changes
  PdpteRegisters registers;
  std::vector<PdpteRegisters> others;  // any of these may be loaded instead
};

// A and D in memory that may be set or not (open_bits.h) are reserved in a PDPTE: where the write
// was accepted they were clear.
void settle_accepted_pdptes(MachineState& state, std::uint64_t first) {
  if (!state.anything_open()) return;
  const PdptesInMemory pdptes = state.pdptes_at(first);
  if (!pdptes.registers.known) return;
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint64_t entry = pdptes.registers.entry[i], at = first + 8 * i;
    if (pdptes.open[i] == 0 || !(entry & pte::kP)) continue;
    state.flip_bits(at, pdptes.open[i] & entry, Hand::kOpen);
    state.settle_open(at, 8);
  }
}

// Whether a load from there ends as it was seen to.
bool pdptes_suit(const MachineState& state, std::uint64_t base, OutcomeKind got) {
  const PdpteRegisters pdptes = state.pdptes_at(base).registers;
  const bool fault = pdptes_fault(state.rule_book().at(kRowPae, false), pdptes);
  return !pdptes.known || fault == (got != OutcomeKind::kDone);
}

// What is left to say of a write once its PDPTEs have been looked at: #GP (a host request: refused)
// if a present one has a reserved bit, open if they lie outside memory.
PdpteLoad load_pdptes(MachineState& state, const JudgeInput& in, RegisterWrite& w, Verdict& out) {
  using Kind = RegisterWrite::Kind;
  const OutcomeKind got = in.got->kind;
  PdpteLoad load;
  load.due = state.latches_pdptes() && w.loads_pdptes &&
             (w.kind == Kind::kAccept || w.kind == Kind::kOpen);
  if (!load.due) return load;
  std::uint64_t base = gpa_of_pdpte(w.after.cr3, 0);
  if (state.vcpu(in.step->what.vcpu).guest.active()) {
    const GuestLoad found = find_guest_load(state, in, base, pdptes_suit, out);
    load.exited = found.exited || out.kind != VerdictKind::kAgree;
    if (load.exited) return load;
    base = found.base;
    for (const std::uint64_t other : found.others) {
      const PdpteRegisters registers = state.pdptes_at(other).registers;
      const bool new_one =
          registers != state.pdptes_at(base).registers &&
          std::find(load.others.begin(), load.others.end(), registers) == load.others.end();
      if (new_one && load.others.size() < kMostLoaded) load.others.push_back(registers);
    }
  }
  if (got == OutcomeKind::kDone && load.others.empty()) settle_accepted_pdptes(state, base);
  load.registers = state.pdptes_at(base).registers;
  if (!load.registers.known) {
    w.kind = Kind::kOpen;
    w.rule = &rules::kTableMmio;
  } else if (pdptes_fault(state.rule_book().at(kRowPae, false), load.registers)) {
    w.kind = Kind::kGp;
    w.rule = &rules::kPdpte;
  }
  return load;
}

}  // namespace

void judge_register(MachineState& state, const JudgeInput& in, Verdict& out) {
  using Kind = RegisterWrite::Kind;
  const Op& op = in.step->what;
  const OutcomeKind got = in.got->kind;
  const Registers now = state.vcpu(op.vcpu).registers;
  RegisterWrite w = write_register(state.machine(), now, op.reg(), op.value);
  const PdpteLoad load = load_pdptes(state, in, w, out);
  if (load.exited) return;
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
  state.registers_written(op.vcpu, op.reg(), w.after, no_flush,
                          load.due ? &load.registers : nullptr);
  for (const PdpteRegisters& other : load.others) state.may_have_loaded(op.vcpu, other);
}

void judge_sregs(MachineState& state, const JudgeInput& in, Verdict& out) {
  using Kind = RegisterWrite::Kind;
  const Op& op = in.step->what;
  const OutcomeKind got = in.got->kind;
  RegisterWrite w = set_registers(state.machine(), state.vcpu(op.vcpu).registers, op);
  const PdpteLoad load = load_pdptes(state, in, w, out);
  if (load.exited) return;
  const bool done = got == OutcomeKind::kDone, refused = got == OutcomeKind::kRefused;
  const bool accepted = w.kind == Kind::kOpen ? done : w.kind == Kind::kAccept;
  if (w.kind == Kind::kOpen && (done || refused)) {
    unspecified(out, *w.rule, "outcome", to_text(*in.got), "done or refused");
  } else if (accepted ? !done : !refused) {
    diverge(out, DivergenceClass::kWrongRegister, *w.rule, "sregs", to_text(*in.got),
            accepted ? "done" : "refused");
  }
  if (!accepted) return;
  state.registers_set(op.vcpu, w.after, load.due ? &load.registers : nullptr, rules::kSregs);
  for (const PdpteRegisters& other : load.others) state.may_have_loaded(op.vcpu, other);
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
  ended_as(in, want, op.verb == Verb::kInvpcid ? rules::kInvpcid : rules::kStale13, out);
  if (want != OutcomeKind::kDone) return;
  if (op.verb == Verb::kInvlpg) {
    state.invlpg(op.vcpu, op.gva);
  } else {
    state.invpcid(op.vcpu, op.type, op.pcid, op.gva);
  }
}

}  // namespace twinwalk::oracle
