// The class and the rule of an outcome that nothing permits.

#include "oracle/access_judge.h"
#include "oracle/registers.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {

void AccessJudge::classify() {
  if (out_.kind == VerdictKind::kDiverge) return;  // the entries were wrong
  const Outcome want = to_outcome(context_, fresh_);
  DivergenceClass divergence = class_of_difference();
  const Rule* rule = &rule_of_difference();
  if (const Rule* cover = covering_rule()) {
    divergence = DivergenceClass::kStaleAfterFlush;
    rule = cover;
  } else if (explained_without_profile()) {
    rule = &rules::kProfileKvm;
  }
  diverge(out_, divergence, *rule, field_of(divergence, "cr2"), to_text(got_), to_text(want));
}

DivergenceClass AccessJudge::class_of_difference() const {
  const bool ok = completes(got_.kind);
  if (completes(fresh_.kind)) {
    if (got_.kind == OutcomeKind::kPageFault || got_.kind == OutcomeKind::kGp ||
        got_.kind == OutcomeKind::kSs) {
      return DivergenceClass::kSpuriousFault;
    }
    if (!ok) return DivergenceClass::kWrongException;
    if (got_.kind != fresh_.kind || got_.kind == OutcomeKind::kMmio)
      return DivergenceClass::kWrongMmio;
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      if (got_.gpa[i] != kUnknownGpa && got_.gpa[i] != fresh_.part[i].walk.gpa)
        return DivergenceClass::kWrongFrame;
      if (state_.frame_changed(fresh_.part[i].walk.gpa)) return DivergenceClass::kWrongFrame;
    }
    return DivergenceClass::kWrongValue;
  }
  if (ok) return DivergenceClass::kMissedFault;
  if (got_.kind != fresh_.kind) return DivergenceClass::kWrongException;
  return seen_.fault_address_is_ours() ? DivergenceClass::kWrongErrorCode
                                       : DivergenceClass::kWrongFaultAddress;
}

const Rule& AccessJudge::rule_of_difference() const {
  for (unsigned i = 0; i < fresh_.parts; ++i)
    if (fresh_.part[i].walk.apart) return rules::kPdpte;
  if (fresh_.kind == OutcomeKind::kGp) return rules::kCanonical;
  const bool fresh_fault = fresh_.kind == OutcomeKind::kPageFault;
  if (fresh_fault && got_.kind == OutcomeKind::kPageFault && !seen_.fault_address_is_ours())
    return rules::kFaultAddress;
  if (fresh_fault) return deciding_rule(context_, fresh_.part[fresh_.which]);
  if (got_.kind == OutcomeKind::kPageFault) return kvm() ? rules::kVirtual25 : rules::kStale3;
  if (fresh_.kind == OutcomeKind::kMmio || got_.kind == OutcomeKind::kMmio)
    return rules::kVirtual29;
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (state_.frame_changed(fresh_.part[i].walk.gpa)) return rules::kVirtual30;
  }
  const bool frames_equal = got_.gpa[0] == kUnknownGpa || got_.gpa[0] == fresh_.part[0].walk.gpa;
  return frames_equal ? rules::kData : rules::kFresh;
}

const Rule* AccessJudge::covering_rule() {
  if (!completes(got_.kind)) return nullptr;
  StaleMatcher matcher(state_, seen_);
  bool found = matcher.search(state_.profile(), true);
  if (!found && kvm()) found = matcher.search(Profile::kArchitecture, true);
  if (!found) return nullptr;
  const History& history = state_.vcpu(context_.vcpu).history;
  const unsigned pcid = current_pcid(query().registers);
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (!matcher.part(i).stale) continue;
    const StaleWalk& w = matcher.part(i).walk;
    const std::uint64_t gva = fresh_.part[i].gva, bytes = kModes[w.row].page_bytes(w.level);
    const Cover cover = w.global ? history.global_translation(pcid, gva, bytes)
                                 : history.translation(pcid, gva, bytes);
    if (cover.time >= w.oldest_end && cover.rule != nullptr) return cover.rule;
  }
  return nullptr;
}

bool AccessJudge::explained_without_profile() {
  return kvm() && StaleMatcher(state_, seen_).search(Profile::kArchitecture);
}

}  // namespace twinwalk::oracle
