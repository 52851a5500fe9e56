// What an access leaves in the entries that it walked: A, D and nothing else.

#include <fmt/format.h>

#include "oracle/access_judge.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {

bool AccessJudge::store_touches_path(const Landing& landing) const {
  if (!store_) return false;
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const Walk& w = fresh_.part[i].walk;
    for (unsigned s = 0; s < w.count; ++s) {
      if (state_.range_meets(landing.gpa[0], landing.gpa[1], query().size, w.entry_gpa[s],
                             entry_bytes())) {
        return true;
      }
    }
  }
  return false;
}

void AccessJudge::note_open_in_read_only() {
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const Walk& w = fresh_.part[i].walk;
    if (fresh_.part[i].faults) continue;
    for (unsigned s = w.plain; s < w.count; ++s) {
      const std::uint64_t due = store_ && s + 1u == w.count ? kAd : std::uint64_t{pte::kA};
      if ((state_.open_bits(w.entry_gpa[s]) & due) && !state_.is_writable(w.entry_gpa[s]))
        fresh_.table_read_only = true;
    }
  }
}

bool AccessJudge::may_become_dirty(std::uint64_t entry_gpa, const Ways* ways) const {
  if (!store_) return false;
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const AccessPart& part = fresh_.part[i];
    if (part.faults || part.walk.count == 0) continue;
    if (same_byte(part.walk.entry_gpa[part.walk.count - 1], entry_gpa)) return true;
  }
  return !kvm() && ways != nullptr && ways->may_set(entry_gpa, pte::kD);
}

// Then A and D of that word are looked at where it is such an entry.
bool AccessJudge::is_used_with_flags(std::uint64_t entry_gpa) const {
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (!seen_.has_path(i)) continue;
    const Walk& w = fresh_.part[i].walk;
    for (unsigned s = w.plain; s < w.count; ++s)
      if (same_byte(w.entry_gpa[s], entry_gpa)) return true;
  }
  return false;
}

void AccessJudge::wrong_entry(const Rule& rule, DivergenceClass divergence, unsigned i, unsigned s,
                              std::uint64_t want) {
  diverge(out_, divergence, rule, "path",
          fmt::format("{} entry={:#x} at gpa={:#x}", to_text(got_), got_.path[i].entry[s],
                      fresh_.part[i].walk.entry_gpa[s]),
          fmt::format("entry={:#x}", want));
}

bool AccessJudge::changes_are_lawful(bool may_write, const Ways* ways) {
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
      const std::uint64_t after = got_.path[i].entry[s];
      const std::uint64_t change = (before ^ after) & ~state_.open_bits(w.entry_gpa[s]);
      if (change == 0) continue;
      if (s < w.plain && !(change & ~kAd) && is_used_with_flags(w.entry_gpa[s])) continue;
      if (s < w.plain && !kvm() && ways != nullptr && ways->may_set_all(w.entry_gpa[s], change))
        continue;  // a former way used the word as an entry that has flags
      if ((change & ~kAd) || s < w.plain)
        return wrong_entry(rules::kPath, DivergenceClass::kWrongPath, i, s, before), false;
      if (change & before) {
        return wrong_entry(rules::kStale11, DivergenceClass::kAccessedDirty, i, s, before), false;
      }
      if (!(before & pte::kP)) {
        return wrong_entry(rules::kAdOnFault, DivergenceClass::kAccessedDirty, i, s, before), false;
      }
      if (!(change & pte::kD) || (may_write && may_become_dirty(w.entry_gpa[s], ways))) continue;
      if (!kvm() && !amd() && !fresh_.part[i].faults && !store_) {
        unspecified(out_, rules::kStale10, "path", fmt::format("entry={:#x}", after),
                    fmt::format("entry={:#x}", before));
        continue;
      }
      const Rule& rule = fresh_.kind == OutcomeKind::kPageFault ? rules::kAdOnFault : rules::kDirty;
      return wrong_entry(rule, DivergenceClass::kAccessedDirty, i, s, after & ~pte::kD), false;
    }
  }
  return true;
}

void AccessJudge::adopt_path() {
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (!seen_.has_path(i)) continue;
    const Walk& w = fresh_.part[i].walk;
    const auto adopt = [&](unsigned begin, unsigned end) {
      for (unsigned s = begin; s < end && s < got_.path[i].count; ++s) {
        show(w.entry_gpa[s], got_.path[i].entry[s]);
        state_.settle_open(w.entry_gpa[s], entry_bytes());
      }
    };
    // No flag is set in a PDPTE: one that has A now is an entry below, too, perhaps by another gfn.
    adopt(w.plain, w.count);
    adopt(0, w.plain);
  }
}

void AccessJudge::set_bits(std::uint64_t entry_gpa, std::uint64_t bits) {
  if (bits == 0 || !state_.is_writable(entry_gpa)) return;
  show(entry_gpa, state_.load_entry(entry_gpa, entry_bytes()) | bits);
}

void AccessJudge::set_owed(unsigned i) {
  const Walk& w = fresh_.part[i].walk;
  for (unsigned s = 0; s < w.count; ++s) set_bits(w.entry_gpa[s], owed_bits(w, s, store_));
}

void AccessJudge::set_owed() {
  for (unsigned i = 0; i < fresh_.parts; ++i) set_owed(i);
}

bool AccessJudge::owed_is_there() const {
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (!seen_.has_path(i)) continue;
    const Walk& w = fresh_.part[i].walk;
    for (unsigned s = 0; s < w.count; ++s) {
      if (owed_bits(w, s, store_) & ~got_.path[i].entry[s]) return false;
    }
  }
  return true;
}

bool AccessJudge::explain_unset_bits() {
  StaleMatcher matcher(state_, seen_);
  return matcher.search(state_.profile()) || missing_bits();
}

bool AccessJudge::missing_bits() {
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const Walk& w = fresh_.part[i].walk;
    for (unsigned s = 0; s < w.count && s < got_.path[i].count; ++s) {
      const std::uint64_t missing = owed_bits(w, s, store_) & ~got_.path[i].entry[s];
      if (missing == 0) continue;
      wrong_entry(missing & pte::kA ? rules::kAccessed : rules::kDirty,
                  DivergenceClass::kAccessedDirty, i, s, w.entry[s] | owed_bits(w, s, store_));
      return false;
    }
  }
  return false;
}

bool AccessJudge::is_shown(std::uint64_t entry_gpa) const {
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (!seen_.has_path(i)) continue;
    const Walk& w = fresh_.part[i].walk;
    for (unsigned s = 0; s < w.count; ++s)
      if (same_byte(w.entry_gpa[s], entry_gpa)) return true;
  }
  return false;
}

void AccessJudge::settle_unseen(const Ways& ways) {
  ways.for_each([this](std::uint64_t gpa, std::uint64_t may, std::uint64_t must) {
    if (!is_shown(gpa)) set_or_leave_open(gpa, may, must);
  });
}

void AccessJudge::leave_walk_open(unsigned i) {
  const AccessPart& part = fresh_.part[i];
  const Walk& w = part.walk;
  for (unsigned s = w.plain; s < w.count; ++s) {
    if (!(w.entry[s] & pte::kP) || is_shown(w.entry_gpa[s])) continue;
    const bool dirty = store_ && !part.faults && w.stop == Stop::kLeaf && s + 1 == w.count;
    set_or_leave_open(w.entry_gpa[s], (pte::kA | (dirty ? pte::kD : 0)) & ~w.entry[s], 0);
  }
}

void AccessJudge::leave_walks_apart_open() {
  for (unsigned i = 0; i < fresh_.parts; ++i)
    if (fresh_.part[i].walk.apart) leave_walk_open(i);
}

// What may be set counts as set: the staleness model then knows all that may be cached from it.
void AccessJudge::set_or_leave_open(std::uint64_t entry_gpa, std::uint64_t may,
                                    std::uint64_t must) {
  if (!state_.is_writable(entry_gpa)) return;
  set_bits(entry_gpa, must);
  state_.settle_bits(entry_gpa, must);
  state_.leave_open(entry_gpa, may & ~must);
  set_bits(entry_gpa, may);
}

bool AccessJudge::settle_self_store(const Landing& landing, std::uint64_t old) {
  Ways ways(state_, seen_);
  ways.of_completion(landing.gpa);
  if (!ways.found()) {
    if (!fresh_.table_read_only) return missing_bits();
    unspecified(out_, rules::kTableReadOnly, "path", to_text(got_),
                to_text(to_outcome(context_, fresh_)));
  }
  ways.for_each([this](std::uint64_t gpa, std::uint64_t may, std::uint64_t must) {
    set_or_leave_open(gpa, may, must);
  });
  store_data(landing, old);
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (seen_.has_path(i) && !tables_after_store_are_shown(i)) break;  // the answer is adopted
  }
  return true;
}

bool AccessJudge::tables_after_store_are_shown(unsigned i) {
  const Path& path = got_.path[i];
  Walk after;
  walk(state_.memory(), *context_.rules, {query().registers.cr3, nullptr}, fresh_.part[i].gva,
       after);
  // A path as it is shown goes on behind a reserved bit, a walk does not.
  const bool same_length =
      path.count == after.count || (path.count > after.count && after.stop == Stop::kReserved);
  if (!same_length) {
    diverge(out_, DivergenceClass::kWrongPath, rules::kPath, "path",
            fmt::format("{} with {} entries", to_text(got_), path.count),
            fmt::format("{} entries", after.count));
    return false;
  }
  for (unsigned s = 0; s < after.count; ++s) {
    // As it is now: a word that is used at two steps has been shown once already.
    const std::uint64_t want = state_.load_entry(after.entry_gpa[s], entry_bytes());
    const std::uint64_t change = want ^ path.entry[s];
    // Speculation may have walked the new tables already (rule stale-10).
    const bool may_speculate = !kvm() && (want & pte::kP) && s >= after.plain;
    const std::uint64_t speculative = may_speculate ? pte::kA & ~want : 0;
    const std::uint64_t wrong = change & ~state_.open_bits(after.entry_gpa[s]) & ~speculative;
    if (wrong != 0) {
      const bool flags = (wrong & ~kAd) == 0;
      diverge(out_, flags ? DivergenceClass::kAccessedDirty : DivergenceClass::kWrongPath,
              !flags            ? rules::kPath
              : wrong & pte::kA ? rules::kAccessed
                                : rules::kDirty,
              "path", fmt::format("entry={:#x} at gpa={:#x}", path.entry[s], after.entry_gpa[s]),
              fmt::format("entry={:#x}", want));
      return false;
    }
    show(after.entry_gpa[s], path.entry[s]);
    state_.settle_open(after.entry_gpa[s], entry_bytes());
  }
  return true;
}

}  // namespace twinwalk::oracle
