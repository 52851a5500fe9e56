#include <fmt/format.h>

#include <algorithm>

#include "oracle/judge.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

// A store by the guest's emulated instruction, or by the host process behind everybody's back.
void judge_write(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  const bool host = op.writer() == Writer::kHost;
  const unsigned size = static_cast<unsigned>(op.size >= 1 && op.size <= 8 ? op.size : 8);
  const std::uint64_t second = (op.gpa | (kPageBytes - 1)) + 1;
  const bool crosses = second != 0 && op.gpa + size > second;
  Outcome want;
  for (const std::uint64_t gpa : {op.gpa, second}) {
    if (gpa == second && !crosses) break;
    const bool lands = host ? state.is_memory(gpa) : state.is_writable(gpa);
    if (lands || want.kind != OutcomeKind::kDone) continue;
    want.kind = host ? OutcomeKind::kRefused : OutcomeKind::kMmio;
    want.gpa[0] = gpa;
    want.write = !host;
  }
  const Outcome& got = *in.got;
  const bool same_mmio =
      want.kind != OutcomeKind::kMmio || (got.write && got.gpa[0] == want.gpa[0]);
  if (got.kind != want.kind || !same_mmio) {
    diverge(out, DivergenceClass::kWrongMmio, rules::kVirtual29, "outcome", to_text(got),
            to_text(want));
  }
  if (want.kind == OutcomeKind::kDone) {
    state.store(op.gpa, second, size, op.value, host ? Hand::kHost : Hand::kGuest);
  }
}

void judge_dirty_get(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  const Outcome& got = *in.got;
  const Memslot* slot = op.slot < kMaxSlots ? &state.slot(op.space, op.slot) : nullptr;
  if (slot == nullptr || !slot->live) {
    if (got.kind != OutcomeKind::kRefused) {
      diverge(out, DivergenceClass::kWrongException, rules::kHostRequest, "outcome", to_text(got),
              "refused");
    }
    return;
  }
  if (!slot->log_dirty) {
    // Nothing is logged: an empty answer and a refusal say the same.
    const bool empty = got.kind == OutcomeKind::kDone && got.extra_count == 0;
    if (got.kind != OutcomeKind::kRefused && !empty) {
      diverge(out, DivergenceClass::kWrongException, rules::kHostRequest, "outcome", to_text(got),
              "refused or an empty log");
    }
    return;
  }
  if (got.kind != OutcomeKind::kDone) {
    diverge(out, DivergenceClass::kWrongException, rules::kHostRequest, "outcome", to_text(got),
            "done");
    return;
  }
  const std::uint64_t* begin = in.extra + got.extra_begin;
  const std::uint64_t* end = begin + got.extra_count;
  if (!std::is_sorted(begin, end)) {
    diverge(out, DivergenceClass::kLostDirtyLog, rules::kVirtual28, "dirty-log", "unsorted gfns",
            "sorted gfns");
  }
  if (const auto gfn = state.missing_from_log(op.space, op.slot, {begin, end})) {
    diverge(out, DivergenceClass::kLostDirtyLog, rules::kVirtual28, "dirty-log",
            fmt::format("{} gfns without {:#x}", got.extra_count, *gfn),
            fmt::format("gfn {:#x} among them", *gfn));
  }
  if (!state.log_stays()) state.dirty_collected(op.space, op.slot);
}

// Pages of a slot that logs, where the log is cleared by hand (KVM: kvm_clear_dirty_log_protect).
bool may_clear(const MachineState& state, const Op& op) {
  if ((state.machine().options & option::kManualClear) == 0 || op.slot >= kMaxSlots) return false;
  const Memslot& slot = state.slot(op.space, op.slot);
  const std::uint64_t at = op.gpa - slot.gpa;
  return slot.live && slot.log_dirty && at % kPageBytes == 0 && at < slot.bytes && op.pages != 0 &&
         op.pages <= (slot.bytes - at) / kPageBytes;
}

void judge_dirty_clear(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  const bool accepted = may_clear(state, op);
  ended_as(in, accepted ? OutcomeKind::kDone : OutcomeKind::kRefused, rules::kHostRequest, out);
  // What the host clears before it has collected it is gone: its own doing.
  if (in.got->kind == OutcomeKind::kDone && op.slot < kMaxSlots)
    state.dirty_cleared(op.space, op.slot, op.gpa / kPageBytes, op.pages);
}

bool change_slot(MachineState& state, const Op& op) {
  switch (op.verb) {
    case Verb::kSlotAdd:
      return state.slot_add(op);
    case Verb::kSlotDelete:
      return state.slot_delete(op);
    case Verb::kSlotMove:
      return state.slot_move(op);
    default:
      return state.slot_flags(op);
  }
}

void judge_slot(MachineState& state, const JudgeInput& in, Verdict& out) {
  const OutcomeKind got = in.got->kind;
  if (got == OutcomeKind::kRefused && state.allocation_fails)
    return;  // for lack of memory: nothing changed
  const bool accepted = change_slot(state, in.step->what);
  if (got == (accepted ? OutcomeKind::kDone : OutcomeKind::kRefused)) return;
  diverge(out, DivergenceClass::kWrongException, rules::kHostRequest, "outcome", to_text(*in.got),
          accepted ? "done" : "refused");
}

void judge_attributes(MachineState& state, const JudgeInput& in, Verdict& out) {
  const OutcomeKind got = in.got->kind;
  if (got == OutcomeKind::kRefused && state.allocation_fails) return;
  const bool accepted = state.set_private(in.step->what);
  ended_as(in, accepted ? OutcomeKind::kDone : OutcomeKind::kRefused, rules::kHostRequest, out);
}

void judge_track(MachineState& state, const JudgeInput& in, Verdict& out) {
  const OutcomeKind got = in.got->kind;
  if (got == OutcomeKind::kRefused && state.allocation_fails) return;
  const bool accepted = state.track(in.step->what);
  ended_as(in, accepted ? OutcomeKind::kDone : OutcomeKind::kRefused, rules::kHostRequest, out);
}

}  // namespace

void judge_host(MachineState& state, const JudgeInput& in, Verdict& out) {
  const Op& op = in.step->what;
  switch (op.verb) {
    case Verb::kWrite:
      return judge_write(state, in, out);
    case Verb::kSlotAdd:
    case Verb::kSlotDelete:
    case Verb::kSlotMove:
    case Verb::kSlotFlags:
      return judge_slot(state, in, out);
    case Verb::kAttributes:
      return judge_attributes(state, in, out);
    case Verb::kTrack:
      return judge_track(state, in, out);
    case Verb::kDirtyGet:
      return judge_dirty_get(state, in, out);
    case Verb::kDirtyClear:
      return judge_dirty_clear(state, in, out);
    case Verb::kFailAlloc:
      state.allocation_fails = true;
      break;
    default:
      break;
  }
  // What is left is invisible to the guest but for the frames that change. A refusal (of a range
  // outside the backed one, of a quota) changes nothing.
  if (in.got->kind == OutcomeKind::kRefused) return;
  if (in.got->kind != OutcomeKind::kDone) {
    diverge(out, DivergenceClass::kWrongException, rules::kHostRequest, "outcome", to_text(*in.got),
            "done");
  }
  if (op.verb == Verb::kInvalidate) state.frames_dropped(op.hva, op.pages);
  if (op.verb == Verb::kRemap) state.frames_moved(op.hva, op.pages);
}

}  // namespace twinwalk::oracle
