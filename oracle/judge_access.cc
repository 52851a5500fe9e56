#include <fmt/format.h>

#include "oracle/access.h"
#include "oracle/judge.h"
#include "oracle/observation.h"
#include "oracle/registers.h"
#include "oracle/rules.h"
#include "oracle/stale_match.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kAd = pte::kA | pte::kD;

// Where the bytes of an access landed, once it is settled.
struct Landing {
  std::uint64_t gpa[2] = {0, 0};
};

class AccessJudge {
 public:
  AccessJudge(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out)
      : state_(state), got_(*in.got), index_(in.index), counters_(counters), out_(out) {
    const unsigned vcpu = in.step->what.vcpu;
    query_ = query_of(*in.step, state.vcpu(vcpu).registers);
    context_ = make_context(state, vcpu, query_);
    store_ = stores(query_.kind);
  }

  void run() {
    fresh_access(state_, context_, fresh_);
    if (state_.observer != nullptr && state_.observer->wants_accesses()) tell_observer();
    if (fresh_matches()) {
      if (completes(fresh_.kind) ? settle_fresh_completion() : settle_fresh_fault()) {
        ++counters_.fresh;
        return;
      }
    } else if (accept_fault_before_gp() || accept_open_table() || accept_stale() ||
               accept_old_fetch_fault()) {
      return;
    } else {
      classify();
    }
    adopt_fresh();
  }

 private:
  bool kvm() const { return state_.profile() == Profile::kKvm; }
  bool amd() const { return state_.machine().vendor == Vendor::kAmd; }
  const AccessQuery& query() const { return query_; }
  bool same_byte(std::uint64_t a, std::uint64_t b) const {
    return state_.memory().slots().same_byte(a, b);
  }

  void tell_observer() {
    if (fresh_.table_without_memory || fresh_.table_read_only) return;
    // Which half of an access across the canonical edge faults first is open: nothing to compare.
    const std::uint64_t offset = query().gva & (kPageBytes - 1);
    if (fresh_.kind == OutcomeKind::kGp && offset + byte_count(query()) > kPageBytes) return;
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      const Walk& w = fresh_.part[i].walk;
      for (unsigned s = 0; s < w.count; ++s) state_.announce(w.entry_gpa[s]);
      if (w.stop == Stop::kLeaf) state_.announce(w.gpa);
    }
    state_.observer->on_access(index_, query(), to_fresh_outcome(context_, fresh_));
  }

  // --- the fresh outcome ---------------------------------------------------

  bool fresh_matches() {
    if (got_.kind != fresh_.kind) return false;
    switch (fresh_.kind) {
      case OutcomeKind::kPageFault:
        if (fresh_.table_without_memory) return false;  // judged apart
        for (unsigned i = 0; i < fresh_.parts; ++i) {
          if (!fresh_.part[i].faults || !seen_.fault_matches(i, fresh_.part[i].error_code))
            continue;
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
        return query().kind == AccessKind::kWrite || got_.value == fresh_.value;
      default:
        return true;
    }
  }

  // --- entries afterwards --------------------------------------------------

  // The store goes to an entry of its own path.
  bool store_touches_path(const Landing& landing) const {
    if (!store_) return false;
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      const Walk& w = fresh_.part[i].walk;
      for (unsigned s = 0; s < w.count; ++s) {
        if (state_.range_meets(landing.gpa[0], landing.gpa[1], query().size, w.entry_gpa[s]))
          return true;
      }
    }
    return false;
  }

  bool path_equals(unsigned i) const {
    const Walk& w = fresh_.part[i].walk;
    const Path& p = got_.path[i];
    if (p.count != w.count) return false;
    for (unsigned s = 0; s < w.count; ++s) {
      if (p.entry[s] != w.entry[s]) return false;
    }
    return true;
  }

  // An entry may have D after the step only if it maps a page that this access may write, or had it
  // before.
  bool may_become_dirty(std::uint64_t entry_gpa) const {
    if (!store_) return false;
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      const AccessPart& part = fresh_.part[i];
      if (part.faults || part.walk.count == 0) continue;
      if (same_byte(part.walk.entry_gpa[part.walk.count - 1], entry_gpa)) return true;
    }
    return false;
  }

  void wrong_entry(const Rule& rule, DivergenceClass divergence, unsigned i, unsigned s,
                   std::uint64_t want) {
    diverge(out_, divergence, rule, "path",
            fmt::format("{} entry={:#x} at gpa={:#x}", to_text(got_), got_.path[i].entry[s],
                        fresh_.part[i].walk.entry_gpa[s]),
            fmt::format("entry={:#x}", want));
  }

  // Whether the subject changed nothing in the entries that it must not. Says so in out_ if it did.
  // `may_write`: the step may set D in the leaf.
  bool changes_are_lawful(bool may_write) {
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      if (!seen_.has_path(i)) continue;
      const Walk& w = fresh_.part[i].walk;
      for (unsigned s = 0; s < w.count; ++s) {
        const std::uint64_t before = w.entry[s];
        if (s >= got_.path[i].count) {
          diverge(out_, DivergenceClass::kWrongPath, rules::kPath, "path",
                  fmt::format("{} with {} entries", to_text(got_), got_.path[i].count),
                  fmt::format("{} entries", w.count));
          return false;
        }
        const std::uint64_t after = got_.path[i].entry[s], change = before ^ after;
        if (change == 0) continue;
        if (change & ~kAd)
          return wrong_entry(rules::kPath, DivergenceClass::kWrongPath, i, s, before), false;
        if (change & before) {
          return wrong_entry(rules::kStale11, DivergenceClass::kAccessedDirty, i, s, before), false;
        }
        if (!(before & pte::kP)) {
          return wrong_entry(rules::kAdOnFault, DivergenceClass::kAccessedDirty, i, s, before),
                 false;
        }
        if (!(change & pte::kD) || (may_write && may_become_dirty(w.entry_gpa[s]))) continue;
        if (!kvm() && !amd() && !fresh_.part[i].faults && !store_) {
          unspecified(out_, rules::kStale10, "path", fmt::format("entry={:#x}", after),
                      fmt::format("entry={:#x}", before));
          continue;
        }
        const Rule& rule =
            fresh_.kind == OutcomeKind::kPageFault ? rules::kAdOnFault : rules::kDirty;
        return wrong_entry(rule, DivergenceClass::kAccessedDirty, i, s, after & ~pte::kD), false;
      }
    }
    return true;
  }

  // Takes over the entries as the subject has them.
  void adopt_path() {
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      const Walk& w = fresh_.part[i].walk;
      for (unsigned s = 0; s < w.count && s < got_.path[i].count; ++s) {
        // Looked up again: an entry used at two steps is one word.
        if (got_.path[i].entry[s] != state_.load_word(w.entry_gpa[s])) {
          state_.store_word(w.entry_gpa[s], got_.path[i].entry[s], Hand::kWalker);
        }
      }
    }
  }

  void set_bits(std::uint64_t entry_gpa, std::uint64_t bits) {
    if (bits == 0 || !state_.is_writable(entry_gpa)) return;
    state_.store_word(entry_gpa, state_.load_word(entry_gpa) | bits, Hand::kWalker);
  }

  // Sets what the fresh walk of a part owes.
  void set_owed(unsigned i) {
    const Walk& w = fresh_.part[i].walk;
    for (unsigned s = 0; s < w.count; ++s) set_bits(w.entry_gpa[s], owed_bits(w, s, store_));
  }
  void set_owed() {
    for (unsigned i = 0; i < fresh_.parts; ++i) set_owed(i);
  }

  void store_data(const Landing& landing, std::uint64_t old) {
    if (!store_) return;
    const std::uint64_t value =
        query().kind == AccessKind::kRmw ? old + query().value : query().value;
    // Of a frame with several names nobody can say which one the store went through, and whether a
    // shadow MMU could see that the byte is a guest table's depends on it: it counts as
    // unannounced.
    const bool aliased = state_.memory().slots().is_aliased(landing.gpa[0]);
    state_.store(landing.gpa[0], landing.gpa[1], query().size, value,
                 aliased ? Hand::kHost : Hand::kGuest);
  }

  Landing fresh_landing() const { return {{fresh_.part[0].walk.gpa, fresh_.part[1].walk.gpa}}; }

  // --- a fresh completion --------------------------------------------------

  // False: the entries are wrong; out_ says so and nothing was changed.
  bool settle_fresh_completion() {
    const bool lands = fresh_.kind == OutcomeKind::kOk;
    const bool owed = fresh_.anything_owed;
    if (!owed && path_equals(0) && (fresh_.parts == 1 || path_equals(1))) {
      if (lands) store_data(fresh_landing(), fresh_.value);
      return true;
    }
    if (lands && store_touches_path(fresh_landing())) {
      set_owed();
      settle_self_store(fresh_landing(), fresh_.value);
      return true;
    }
    if (!changes_are_lawful(true)) return false;
    if (owed && !owed_is_there()) {
      if (fresh_.table_read_only) {
        unspecified(out_, rules::kTableReadOnly, "path", to_text(got_),
                    to_text(to_outcome(context_, fresh_)));
      } else if (!explain_unset_bits()) {
        return false;
      }
    }
    if (seen_.has_path(0)) {
      adopt_path();
    } else {
      set_owed();
    }
    if (lands) store_data(fresh_landing(), fresh_.value);
    return true;
  }

  bool owed_is_there() const {
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      if (!seen_.has_path(i)) continue;
      const Walk& w = fresh_.part[i].walk;
      for (unsigned s = 0; s < w.count; ++s) {
        if (owed_bits(w, s, store_) & ~got_.path[i].entry[s]) return false;
      }
    }
    return true;
  }

  // Some A or D is missing although the outcome is that of the fresh walk: did a cached
  // translation give it?
  bool explain_unset_bits() {
    StaleMatcher matcher(state_, seen_);
    if (matcher.search(state_.profile())) return true;
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      const Walk& w = fresh_.part[i].walk;
      for (unsigned s = 0; s < w.count; ++s) {
        const std::uint64_t missing = owed_bits(w, s, store_) & ~got_.path[i].entry[s];
        if (missing == 0) continue;
        wrong_entry(missing & pte::kA ? rules::kAccessed : rules::kDirty,
                    DivergenceClass::kAccessedDirty, i, s, w.entry[s] | owed_bits(w, s, store_));
        return false;
      }
    }
    return false;
  }

  // The access stores to an entry of its own path: the subject's path shows the tables after that
  // store. All but A and D is compared there. Precondition: the A and D that are owed have been
  // set.
  void settle_self_store(const Landing& landing, std::uint64_t old) {
    store_data(landing, old);
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      if (!seen_.has_path(i)) continue;
      Walk after;
      walk(state_.memory(), *context_.rules, query().registers.cr3, fresh_.part[i].gva, after);
      for (unsigned s = 0; s < after.count && s < got_.path[i].count; ++s) {
        const std::uint64_t change = after.entry[s] ^ got_.path[i].entry[s];
        if (change == 0) continue;
        if (change & ~kAd) {
          diverge(
              out_, DivergenceClass::kWrongPath, rules::kPath, "path",
              fmt::format("entry={:#x} at gpa={:#x}", got_.path[i].entry[s], after.entry_gpa[s]),
              fmt::format("entry={:#x}", after.entry[s]));
          return;  // the answer is adopted already
        }
        state_.store_word(after.entry_gpa[s], got_.path[i].entry[s], Hand::kWalker);
        if (!same_table(i, s, after)) break;
      }
    }
  }

  bool same_table(unsigned i, unsigned s, const Walk& after) const {
    return s < fresh_.part[i].walk.count && fresh_.part[i].walk.entry_gpa[s] == after.entry_gpa[s];
  }

  // --- a fresh fault -------------------------------------------------------

  void deliver_fault(unsigned which) {
    const Walk& w = fresh_.part[which].walk;
    const std::uint64_t bytes =
        w.stop == Stop::kLeaf ? context_.rules->mode->page_bytes(w.level) : kPageBytes;
    state_.page_faulted(context_.vcpu, fresh_.part[which].gva, bytes);
  }

  bool settle_fresh_fault() {
    if (fresh_.kind != OutcomeKind::kPageFault) return true;  // #GP: nothing was walked
    bool unchanged = true;
    for (unsigned i = 0; i < fresh_.parts; ++i) unchanged &= !seen_.has_path(i) || path_equals(i);
    if (!unchanged) {
      if (!changes_are_lawful(true)) return false;
      adopt_path();
    }
    deliver_fault(fresh_.which);
    return true;
  }

  // --- what the architecture does not define -------------------------------

  // An access that crosses between a canonical and a non-canonical page: #GP, or the #PF of the
  // canonical half if that comes first.
  bool accept_fault_before_gp() {
    if (fresh_.kind != OutcomeKind::kGp || got_.kind != OutcomeKind::kPageFault) return false;
    if (!walk_canonical_half(state_, context_, fresh_)) return false;
    const unsigned half = fresh_.which;
    const bool there = seen_.faulting_part() == half && seen_.fault_address_is_ours();
    if (there && (fault_of_some_part() || (fresh_.table_without_memory && fault_of_open_table()) ||
                  StaleMatcher(state_, seen_).search(state_.profile()))) {
      if (changes_are_lawful(false)) {
        adopt_path();
        deliver_fault(half);
        unspecified(out_, rules::kCrossing, "outcome", to_text(got_),
                    to_text(to_outcome(context_, fresh_)));
        return true;
      }
    }
    fresh_.parts = fresh_.which = 0;
    return false;
  }

  // A table without memory, or A/D due in a read-only one: #PF with P=0 (or RSVD for the former).
  bool accept_open_table() {
    if (!fresh_.table_without_memory && !fresh_.table_read_only) return false;
    if (got_.kind != OutcomeKind::kPageFault) return false;
    const bool known =
        fault_of_open_table() || (fresh_.kind == OutcomeKind::kPageFault && fault_of_some_part());
    if (!known || !seen_.fault_address_is_ours()) return false;
    if (!changes_are_lawful(true)) return adopt_fresh(), true;
    adopt_path();
    deliver_fault(seen_.faulting_part());
    const Rule& rule = fresh_.table_without_memory ? rules::kTableMmio : rules::kTableReadOnly;
    unspecified(out_, rule, "outcome", to_text(got_), to_text(to_outcome(context_, fresh_)));
    return true;
  }

  bool fault_of_open_table() const {
    const std::uint32_t tried = attempt_bits(context_.controls(), query().kind);
    const std::uint32_t reserved = tried | pfec::kP | pfec::kRsvd;
    return got_.error_code == tried || (fresh_.table_without_memory && got_.error_code == reserved);
  }

  bool fault_of_some_part() const {
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      if (fresh_.part[i].faults && seen_.fault_matches(i, fresh_.part[i].error_code)) return true;
    }
    return false;
  }

  // --- stale outcomes ------------------------------------------------------

  bool accept_stale() {
    StaleMatcher matcher(state_, seen_);
    if (!matcher.search(state_.profile())) {
      if (!matcher.too_large()) return false;
      unspecified(out_, rules::kStale5, "outcome", to_text(got_),
                  "more former values than the search looks at");
      adopt_fresh();
      return true;
    }
    if (got_.kind == OutcomeKind::kPageFault) {
      if (!changes_are_lawful(true)) return false;
      adopt_path();
      deliver_fault(matcher.fault_part());
    } else if (!settle_stale_completion(matcher)) {
      return false;
    }
    ++counters_.stale;
    return true;
  }

  // False: the entries are wrong; out_ says so and nothing was changed.
  bool settle_stale_completion(const StaleMatcher& matcher) {
    const Landing landing{{matcher.gpa(0), fresh_.parts == 2 ? matcher.gpa(1) : 0}};
    const bool lands = got_.kind == OutcomeKind::kOk;
    if (lands && store_touches_path(landing)) {
      for (unsigned i = 0; i < fresh_.parts; ++i) {
        if (!matcher.part(i).stale) set_owed(i);
      }
      set_owed_of_stale(matcher, false);
      settle_self_store(landing, got_.value);
      return true;
    }
    if (!changes_are_lawful(true)) return false;
    adopt_path();
    set_owed_of_stale(matcher, true);
    if (lands) store_data(landing, got_.value);
    return true;
  }

  // A and D of the entries that the explanation walks now, as the manual has it. `adopted`: the
  // present path is as the subject shows it; what is left is entries off that path.
  void set_owed_of_stale(const StaleMatcher& matcher, bool adopted) {
    for (unsigned i = 0; i < fresh_.parts; ++i) {
      if (!matcher.part(i).stale) continue;
      const StaleWalk& w = matcher.part(i).walk;
      for (unsigned s = 0; s < w.count; ++s) {
        const bool shown =
            s < fresh_.part[i].walk.count && fresh_.part[i].walk.entry_gpa[s] == w.entry_gpa[s];
        if (adopted && shown && seen_.has_path(i)) continue;
        set_bits(w.entry_gpa[s], w.owed(s, store_));
      }
    }
  }

  // Rule 1: on bare hardware a fetch's walk may seem to precede a store of this processor until it
  // serializes.
  bool accept_old_fetch_fault() {
    if (kvm() || query().kind != AccessKind::kFetch || got_.kind != OutcomeKind::kPageFault)
      return false;
    if (fresh_.parts == 0 || got_.error_code != attempt_bits(context_.controls(), query().kind))
      return false;
    if (!seen_.fault_address_is_ours()) return false;
    const Walk& w = fresh_.part[0].walk;
    bool recent = false;
    for (unsigned s = 0; s < w.count; ++s) {
      const Memslot* slot = state_.memory().slots().find(w.entry_gpa[s]);
      const Version* v = state_.memory().image().newest(Memslots::hva_of(*slot, w.entry_gpa[s]));
      if (v == nullptr || v->begin <= state_.vcpu(context_.vcpu).serialized) continue;
      const Version* before = state_.memory().image().older(*v);
      recent |= before == nullptr || before->end != v->begin;  // there was a time with P=0
    }
    if (!recent || !changes_are_lawful(false)) return false;
    adopt_path();
    deliver_fault(0);
    ++counters_.stale;
    return true;
  }

  // --- divergence ----------------------------------------------------------

  void classify() {
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
    diverge(out_, divergence, *rule, field_of(divergence), to_text(got_), to_text(want));
  }

  static std::string_view field_of(DivergenceClass divergence) {
    switch (divergence) {
      case DivergenceClass::kWrongErrorCode:
        return "error-code";
      case DivergenceClass::kWrongFaultAddress:
        return "cr2";
      case DivergenceClass::kWrongValue:
        return "value";
      case DivergenceClass::kWrongFrame:
        return "gpa";
      default:
        return "outcome";
    }
  }

  DivergenceClass class_of_difference() const {
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

  const Rule& rule_of_difference() const {
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

  // The invalidation that forbids the only explanation there is, or nullptr.
  const Rule* covering_rule() {
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
      const Cover cover = w.global ? history.global_translation(fresh_.part[i].gva)
                                   : history.translation(pcid, fresh_.part[i].gva);
      if (cover.time >= w.oldest_end && cover.rule != nullptr) return cover.rule;
    }
    return nullptr;
  }

  // Under profile kvm: hardware with its own TLB would have been right.
  bool explained_without_profile() {
    return kvm() && StaleMatcher(state_, seen_).search(Profile::kArchitecture);
  }

  void adopt_fresh() {
    if (out_.kind == VerdictKind::kAgree) return;
    if (completes(fresh_.kind)) {
      set_owed();
      if (fresh_.kind == OutcomeKind::kOk) store_data(fresh_landing(), fresh_.value);
    } else if (fresh_.kind == OutcomeKind::kPageFault) {
      deliver_fault(fresh_.which);
    }
  }

  MachineState& state_;
  const Outcome& got_;
  std::uint32_t index_;
  Counters& counters_;
  Verdict& out_;
  AccessQuery query_;
  AccessContext context_;
  FreshAccess fresh_;
  Observation seen_{context_, fresh_, got_};
  bool store_ = false;
};

}  // namespace

void judge_access(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out) {
  AccessJudge(state, in, counters, out).run();
}

}  // namespace twinwalk::oracle
