// Outcomes that the fresh walk does not give: permitted staleness, and what nobody defines.

#include "oracle/access_judge.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {

bool AccessJudge::accept_fault_before_gp() {
  if (fresh_.kind != OutcomeKind::kGp || got_.kind != OutcomeKind::kPageFault) return false;
  if (!walk_canonical_half(state_, context_, fresh_)) return false;
  const unsigned half = fresh_.which;
  const bool there = seen_.faulting_part() == half && seen_.fault_address_is_ours();
  if (there && (fault_of_some_part() || (fresh_.table_without_memory && fault_of_open_table()) ||
                StaleMatcher(state_, seen_).search(state_.profile()))) {
    if (changes_are_lawful(false)) {
      adopt_path();
      leave_walks_apart_open();
      deliver_fault(half);
      unspecified(out_, rules::kCrossing, "outcome", to_text(got_),
                  to_text(to_outcome(context_, fresh_)));
      return true;
    }
  }
  fresh_.parts = fresh_.which = 0;
  return false;
}

bool AccessJudge::accept_open_table() {
  if (!fresh_.table_without_memory && !fresh_.table_read_only) return false;
  if (device_was_asked_for_table()) {
    if (changes_are_lawful(true)) adopt_path();
    leave_walks_apart_open();
    unspecified(out_, rules::kTableMmio, "outcome", to_text(got_),
                to_text(to_outcome(context_, fresh_)));
    return true;
  }
  if (got_.kind != OutcomeKind::kPageFault) return false;
  const bool known =
      fault_of_open_table() || (fresh_.kind == OutcomeKind::kPageFault && fault_of_some_part());
  if (!known || !seen_.fault_address_is_ours()) return false;
  Ways ways(state_, seen_);
  if (!kvm()) ways.of_fault(seen_.faulting_part());
  if (!changes_are_lawful(true, &ways)) return adopt_fresh(), true;
  adopt_path();
  if (!kvm()) settle_unseen(ways);
  leave_walks_apart_open();
  deliver_fault(seen_.faulting_part());
  const Rule& rule = fresh_.table_without_memory ? rules::kTableMmio : rules::kTableReadOnly;
  unspecified(out_, rule, "outcome", to_text(got_), to_text(to_outcome(context_, fresh_)));
  return true;
}

// A second dimension without memory for a table exits to the device there. The core of a shadow has
// no such exit: its walker reads the table itself.
bool AccessJudge::device_was_asked_for_table() const {
  if (kvm() || got_.kind != OutcomeKind::kMmio || !fresh_.table_without_memory) return false;
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const Walk& walk = fresh_.part[i].walk;
    if (walk.stop != Stop::kNoMemory || walk.count == 0) continue;
    const std::uint64_t table = walk.entry[walk.count - 1] & pte::kAddressMask;
    if (table / kPageBytes == got_.gpa[0] / kPageBytes) return true;
  }
  return false;
}

bool AccessJudge::fault_of_open_table() const {
  const std::uint32_t tried = attempt_bits(context_.controls(), query().kind);
  const std::uint32_t reserved = tried | pfec::kP | pfec::kRsvd;
  return got_.error_code == tried || (fresh_.table_without_memory && got_.error_code == reserved);
}

bool AccessJudge::fault_of_some_part() const {
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (fresh_.part[i].faults && seen_.fault_matches(i, fresh_.part[i].error_code)) return true;
  }
  return false;
}

bool AccessJudge::accept_stale() {
  StaleMatcher matcher(state_, seen_);
  if (!matcher.search(state_.profile())) {
    if (!matcher.too_large()) return false;
    state_.lose_track(rules::kStale5);
    unspecified(out_, rules::kStale5, "outcome", to_text(got_),
                "more former values than the search looks at");
    return true;
  }
  if (got_.kind == OutcomeKind::kPageFault) {
    Ways ways(state_, seen_);
    ways.of_fault(matcher.fault_part());
    if (!changes_are_lawful(true, &ways)) return false;
    adopt_path();
    settle_unseen(ways);
    deliver_fault(matcher.fault_part());
  } else if (!settle_stale_completion(matcher)) {
    return false;
  }
  ++counters_.stale;
  return true;
}

namespace {

class OtherName final : public StaleVisitor {
 public:
  OtherName(const Memslots& slots, std::uint64_t gpa) : slots_(slots), gpa_(gpa) {}
  bool visit(const StaleWalk& walk) override {
    return !walk.faults && walk.gpa != gpa_ && slots_.same_byte(walk.gpa, gpa_);
  }

 private:
  const Memslots& slots_;
  const std::uint64_t gpa_;
};

}  // namespace

bool AccessJudge::went_by_another_gfn(std::uint64_t gpa, unsigned part) {
  const AccessPart& fresh = fresh_.part[part];
  if (!fresh.faults && fresh.walk.gpa != gpa && same_byte(fresh.walk.gpa, gpa)) return true;
  OtherName other(state_.memory().slots(), gpa);
  return search_stale(make_stale_query(state_, context_, fresh.gva), other) != SearchResult::kNone;
}

bool AccessJudge::settle_stale_completion(const StaleMatcher& matcher) {
  const Landing landing{{matcher.gpa(0), fresh_.parts == 2 ? matcher.gpa(1) : 0}};
  const bool lands = got_.kind == OutcomeKind::kOk;
  if (lands && store_touches_path(landing)) return settle_self_store(landing, got_.value);
  Ways ways(state_, seen_);
  // A shadow MMU sets nothing off the present path.
  const bool unseen = !kvm() || !seen_.has_path(0) || (fresh_.parts == 2 && !seen_.has_path(1));
  if (unseen) ways.of_completion(landing.gpa);
  if (!changes_are_lawful(true, &ways)) return false;
  if (lands && query().kind != AccessKind::kWrite && state_.anything_open()) {
    show_loaded(landing);
    settle_bytes(landing);
  }
  Ways settled(state_, seen_);  // once what was loaded has shown what was open
  if (unseen) settled.of_completion(landing.gpa);
  adopt_path();
  if (unseen) settle_unseen(settled);
  if (lands) store_data(landing, got_.value);
  return true;
}

bool AccessJudge::accept_flagged_pdpte() {
  if (got_.kind != OutcomeKind::kPageFault || context_.root.pdptes != nullptr) return false;
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const Walk& w = fresh_.part[i].walk;
    if (w.plain == 0 || !seen_.has_path(i)) continue;
    const std::uint32_t code =
        attempt_bits(context_.controls(), query().kind) | pfec::kP | pfec::kRsvd;
    if (!seen_.fault_matches(i, code) || !(got_.path[i].entry[0] & pte::kA)) continue;
    // An earlier beginning of the access, by what was cached, may have found the word an entry
    // below.
    Ways begun(state_, seen_);
    if (!kvm()) begun.of_earlier_beginnings();
    if (!is_used_with_flags(w.entry_gpa[0]) && !begun.may_set(w.entry_gpa[0], pte::kA)) continue;
    if (!changes_are_lawful(true, &begun)) return false;
    adopt_path();
    deliver_fault(i);
    ++counters_.stale;
    return true;
  }
  return false;
}

bool AccessJudge::accept_old_fetch_fault() {
  if (kvm() || query().kind != AccessKind::kFetch || got_.kind != OutcomeKind::kPageFault)
    return false;
  if (fresh_.parts == 0 || got_.error_code != attempt_bits(context_.controls(), query().kind))
    return false;
  if (!seen_.fault_address_is_ours()) return false;
  const Walk& w = fresh_.part[0].walk;
  bool recent = false;
  for (unsigned s = context_.root.pdptes != nullptr ? w.plain : 0; s < w.count; ++s) {
    const Memslot* slot = state_.memory().slots().find(w.entry_gpa[s]);
    EntryPast past(state_.memory().image(), Memslots::hva_of(*slot, w.entry_gpa[s]), entry_bytes());
    Version v, before;
    if (!past.next(v) || v.begin <= state_.vcpu(context_.vcpu).serialized) continue;
    recent |= !past.next(before) || before.end != v.begin;  // there was a time with P=0
  }
  if (!recent || !changes_are_lawful(false)) return false;
  adopt_path();
  deliver_fault(0);
  ++counters_.stale;
  return true;
}

}  // namespace twinwalk::oracle
