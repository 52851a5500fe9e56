// One access: the fresh walk first, and all that follows where the subject did the same.

#include "oracle/access_judge.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {

void AccessJudge::run() {
  fresh_access(state_, context_, fresh_);
  if (wraps(fresh_)) [[unlikely]]
    return run_wrapping();
  run_defined();
}

// At the end of the 32-bit linear address space an access may go on at 0, or raise an exception for
// the segment's limit.
void AccessJudge::run_wrapping() {
  const std::string_view allowed = "what an access that goes on at 0 does, or #GP or #SS";
  if (got_.kind == OutcomeKind::kGp || got_.kind == OutcomeKind::kSs)
    return unspecified(out_, rules::kWrap, "outcome", to_text(got_), std::string(allowed));
  run_defined();
  if (out_.kind == VerdictKind::kAgree)
    unspecified(out_, rules::kWrap, "outcome", to_text(got_), std::string(allowed));
}

void AccessJudge::run_defined() {
  open_what_was_set_before();
  if (state_.anything_open()) [[unlikely]] {
    settle_loaded();
    settle_open_pdptes();
    note_open_in_read_only();
  }
  if (context_.root.pdptes != nullptr && context_.root.pdptes->doubtful != 0) [[unlikely]]
    settle_doubtful_pdptes();
  if (state_.observer != nullptr && state_.observer->wants_accesses()) tell_observer();
  if (fresh_matches()) {
    if (completes(fresh_.kind) ? settle_fresh_completion() : settle_fresh_fault()) {
      ++counters_.fresh;
      return;
    }
  } else if (accept_fault_before_gp() || accept_open_table() || accept_stale() ||
             accept_flagged_pdpte() || accept_old_fetch_fault()) {
    return;
  } else {
    classify();
  }
  adopt_fresh();
}

void AccessJudge::tell_observer() {
  if (fresh_.table_without_memory || fresh_.table_read_only) return;
  if (wraps(fresh_) || !state_.is_observed_space()) return;
  FreshAccess half;
  const FreshAccess* seen = &fresh_;
  if (fresh_.kind == OutcomeKind::kGp) {
    half = fresh_;
    if (walk_canonical_half(state_, context_, half)) seen = &half;
    if (half.table_without_memory) return;
  }
  for (unsigned i = 0; i < seen->parts; ++i) {
    const Walk& w = seen->part[i].walk;
    for (unsigned s = 0; s < w.count; ++s) state_.announce(w.entry_gpa[s]);
    if (w.stop == Stop::kLeaf) state_.announce(w.gpa);
  }
  state_.observer->on_access(index_, query(), to_fresh_outcome(context_, *seen));
}

bool AccessJudge::fresh_matches() {
  if (got_.kind != fresh_.kind) return false;
  switch (fresh_.kind) {
    case OutcomeKind::kPageFault:
      if (fresh_.table_without_memory) return false;  // judged apart
      for (unsigned i = 0; i < fresh_.parts; ++i) {
        if (!fresh_.part[i].faults || !seen_.fault_matches(i, fresh_.part[i].error_code)) continue;
        fresh_.which = static_cast<std::uint8_t>(i);
        return true;
      }
      return false;
    case OutcomeKind::kMmio:
      return got_.gpa[0] == fresh_.part[fresh_.which].walk.gpa && seen_.mmio_direction_matches();
    case OutcomeKind::kOk:
      for (unsigned i = 0; i < fresh_.parts; ++i) {
        // A subject that sees frames cannot tell aliases apart.
        if (!seen_.lands_at(i, fresh_.part[i].walk.gpa) &&
            !same_byte(fresh_.part[i].walk.gpa, got_.gpa[i])) {
          return false;
        }
      }
      if (query().kind == AccessKind::kWrite) return true;
      // What a read-only memslot shows of its own A and D nobody defines (rule table-read-only).
      if (((got_.value ^ fresh_.value) & ~fresh_.doubtful) == 0) fresh_.value = got_.value;
      return got_.value == fresh_.value;
    default:
      return true;
  }
}

void AccessJudge::open_what_was_set_before() {
  if (kvm() || fresh_.kind != OutcomeKind::kOk || got_.kind != OutcomeKind::kOk) return;
  if (query().kind == AccessKind::kWrite || got_.value == fresh_.value) [[likely]]
    return;
  Ways ways(state_, seen_);
  ways.of_earlier_beginnings();
  ways.for_each([this](std::uint64_t gpa, std::uint64_t may, std::uint64_t) {
    set_or_leave_open(gpa, may, 0);
  });
}

void AccessJudge::settle_loaded() {
  if (fresh_.kind != OutcomeKind::kOk || got_.kind != OutcomeKind::kOk) return;
  if (query().kind == AccessKind::kWrite) return;
  show_loaded(fresh_landing());
  fresh_access(state_, context_, fresh_);
  if (got_.value != fresh_.value) return;  // the bytes came from elsewhere
  settle_bytes(fresh_landing());
}

Loaded AccessJudge::loaded_from(const Landing& landing) const {
  const bool fetch = query().kind == AccessKind::kFetch;
  return {{fetch ? landing.gpa[0] & ~std::uint64_t{7} : landing.gpa[0], landing.gpa[1]},
          byte_count(query())};
}

void AccessJudge::show_loaded(const Landing& landing) {
  const Loaded load = loaded_from(landing);
  for (unsigned b = 0; b < load.bytes; ++b) {
    const std::uint64_t at = load.byte(b), open = state_.open_bits(at) & 0xff;
    if (open == 0) continue;
    const std::uint64_t change = state_.load(at, 0, 1) ^ got_.value >> 8 * b;
    state_.flip_bits(at, change & open, Hand::kOpen);
  }
}

void AccessJudge::settle_bytes(const Landing& landing) {
  const Loaded load = loaded_from(landing);
  for (unsigned b = 0; b < load.bytes; ++b) state_.settle_open(load.byte(b), 1);
}

// A and D are reserved in a PDPTE. Where PDPTEs are read on demand and such a bit was open, the
// entry as it is shown tells; if the access itself may have set it, as that of an entry below, its
// outcome does.
void AccessJudge::settle_open_pdptes() {
  if (context_.root.pdptes != nullptr) return;
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const Walk& w = fresh_.part[i].walk;
    if (w.plain == 0 || w.count == 0 || !seen_.has_path(i)) continue;
    const std::uint64_t at = w.entry_gpa[0], open = w.entry[0] & state_.open_bits(at);
    if (open == 0) continue;
    state_.flip_bits(at, open, Hand::kOpen);  // as if they were clear
    fresh_access(state_, context_, fresh_);
    const bool reserved = got_.kind == OutcomeKind::kPageFault && (got_.error_code & pfec::kRsvd);
    const std::uint64_t set =
        reserved || !is_used_with_flags(at) ? open & got_.path[i].entry[0] : 0;
    state_.flip_bits(at, set, Hand::kOpen);
    state_.settle_open(at, entry_bytes());
    if (set != 0) fresh_access(state_, context_, fresh_);
  }
}

// The first access that tells whether such a PDPTE is present is believed.
void AccessJudge::settle_doubtful_pdptes() {
  const bool faulted = got_.kind == OutcomeKind::kPageFault;
  const std::uint32_t not_present = attempt_bits(context_.controls(), query().kind);
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const AccessPart& part = fresh_.part[i];
    const unsigned number = part.gva >> 30 & 3;
    if (!(context_.root.pdptes->doubtful >> number & 1)) continue;
    if (faulted && !seen_.fault_matches(i, got_.error_code)) continue;  // of the other part
    const bool absent = faulted && got_.error_code == not_present;
    if (absent && part.faults && part.error_code == not_present) continue;  // either way
    state_.settle_pdpte(context_.vcpu, number, !absent);
    fresh_access(state_, context_, fresh_);
  }
}

bool AccessJudge::path_equals(unsigned i) const {
  const Walk& w = fresh_.part[i].walk;
  const Path& p = got_.path[i];
  if (p.count != w.count) return false;
  for (unsigned s = 0; s < w.count; ++s) {
    if (p.entry[s] != w.entry[s]) return false;
  }
  return true;
}

void AccessJudge::store_data(const Landing& landing, std::uint64_t old) {
  if (!store_) return;
  const std::uint64_t value =
      query().kind == AccessKind::kRmw ? old + query().value : query().value;
  state_.store(landing.gpa[0], landing.gpa[1], query().size, value, hand_of_store(landing, 0),
               fresh_.parts == 2 ? hand_of_store(landing, 1) : Hand::kGuest);
}

bool AccessJudge::settle_fresh_completion() {
  const bool lands = fresh_.kind == OutcomeKind::kOk;
  const bool owed = fresh_.anything_owed;
  // On bare hardware a way by former entries may have set flags off the path.
  if (!owed && kvm() && path_equals(0) && (fresh_.parts == 1 || path_equals(1))) {
    if (state_.anything_open()) [[unlikely]]
      adopt_path();
    if (lands) store_data(fresh_landing(), fresh_.value);
    return true;
  }
  if (lands && store_touches_path(fresh_landing()))
    return settle_self_store(fresh_landing(), fresh_.value);
  // Where a PDPTE register and memory differ, the subject shows another walk than that of the
  // access; on bare hardware former entries may have led to the same place, or begun the access.
  bool apart = !kvm();
  for (unsigned i = 0; i < fresh_.parts; ++i) apart |= fresh_.part[i].walk.apart;
  Ways ways(state_, seen_);
  if (apart) ways.of_completion(fresh_landing().gpa);
  if (!changes_are_lawful(true, &ways)) return false;
  if (owed && !owed_is_there()) {
    if (fresh_.table_read_only) {
      unspecified(out_, rules::kTableReadOnly, "path", to_text(got_),
                  to_text(to_outcome(context_, fresh_)));
    } else if (!explain_unset_bits()) {
      return false;
    }
  }
  settle_entries(apart ? &ways : nullptr);
  if (lands) store_data(fresh_landing(), fresh_.value);
  return true;
}

void AccessJudge::settle_entries(const Ways* ways) {
  if (ways == nullptr && !seen_.has_path(0)) return set_owed();
  adopt_path();
  if (ways != nullptr) settle_unseen(*ways);
}

void AccessJudge::deliver_fault(unsigned which) {
  const Walk& w = fresh_.part[which].walk;
  const std::uint64_t bytes =
      w.stop == Stop::kLeaf ? context_.rules->mode->page_bytes(w.level) : kPageBytes;
  state_.page_faulted(context_.vcpu, fresh_.part[which].gva, bytes);
}

bool AccessJudge::settle_fresh_fault() {
  if (fresh_.kind != OutcomeKind::kPageFault) {
    leave_canonical_half_open();
    return true;
  }
  bool unchanged = true;
  for (unsigned i = 0; i < fresh_.parts; ++i) unchanged &= !seen_.has_path(i) || path_equals(i);
  Ways ways(state_, seen_);
  if (!kvm()) ways.of_fault(fresh_.which);
  if (!unchanged) {
    if (!changes_are_lawful(true, &ways)) return false;
    adopt_path();
  }
  if (!kvm()) settle_unseen(ways);
  leave_walks_apart_open();
  deliver_fault(fresh_.which);
  return true;
}

// The #GP of one half comes when it comes: the other half may have been walked by then, of a store
// with D unless it has a fault of its own.
void AccessJudge::leave_canonical_half_open() {
  FreshAccess half;
  if (!walk_canonical_half(state_, context_, half)) return;
  const AccessPart& part = half.part[half.which];
  const Walk& walk = part.walk;
  for (unsigned s = 0; s < walk.count; ++s) {
    if (part.faults && (s < walk.plain || !(walk.entry[s] & pte::kP))) continue;
    const std::uint64_t may = part.faults ? pte::kA & ~walk.entry[s] : owed_bits(walk, s, store_);
    set_or_leave_open(walk.entry_gpa[s], may, 0);
  }
}

void AccessJudge::adopt_fresh() {
  if (out_.kind == VerdictKind::kAgree) return;
  if (completes(fresh_.kind)) {
    set_owed();
    if (fresh_.kind == OutcomeKind::kOk) store_data(fresh_landing(), fresh_.value);
  } else if (fresh_.kind == OutcomeKind::kPageFault) {
    deliver_fault(fresh_.which);
  }
}

void judge_access(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out) {
  AccessJudge(state, in, counters, out).run();
}

}  // namespace twinwalk::oracle
