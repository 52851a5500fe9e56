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
      if (state_.range_meets(landing.gpa[0], landing.gpa[1], query().size, w.entry_gpa[s]))
        return true;
    }
  }
  return false;
}

bool AccessJudge::may_become_dirty(std::uint64_t entry_gpa) const {
  if (!store_) return false;
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    const AccessPart& part = fresh_.part[i];
    if (part.faults || part.walk.count == 0) continue;
    if (same_byte(part.walk.entry_gpa[part.walk.count - 1], entry_gpa)) return true;
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

bool AccessJudge::changes_are_lawful(bool may_write) {
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
        return wrong_entry(rules::kAdOnFault, DivergenceClass::kAccessedDirty, i, s, before), false;
      }
      if (!(change & pte::kD) || (may_write && may_become_dirty(w.entry_gpa[s]))) continue;
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
    const Walk& w = fresh_.part[i].walk;
    for (unsigned s = 0; s < w.count && s < got_.path[i].count; ++s) {
      // Looked up again: an entry used at two steps is one word.
      if (got_.path[i].entry[s] != state_.load_word(w.entry_gpa[s])) {
        state_.store_word(w.entry_gpa[s], got_.path[i].entry[s], Hand::kWalker);
      }
    }
  }
}

void AccessJudge::set_bits(std::uint64_t entry_gpa, std::uint64_t bits) {
  if (bits == 0 || !state_.is_writable(entry_gpa)) return;
  state_.store_word(entry_gpa, state_.load_word(entry_gpa) | bits, Hand::kWalker);
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

void AccessJudge::settle_self_store(const Landing& landing, std::uint64_t old) {
  store_data(landing, old);
  for (unsigned i = 0; i < fresh_.parts; ++i) {
    if (!seen_.has_path(i)) continue;
    Walk after;
    walk(state_.memory(), *context_.rules, query().registers.cr3, fresh_.part[i].gva, after);
    for (unsigned s = 0; s < after.count && s < got_.path[i].count; ++s) {
      const std::uint64_t change = after.entry[s] ^ got_.path[i].entry[s];
      if (change == 0) continue;
      if (change & ~kAd) {
        diverge(out_, DivergenceClass::kWrongPath, rules::kPath, "path",
                fmt::format("entry={:#x} at gpa={:#x}", got_.path[i].entry[s], after.entry_gpa[s]),
                fmt::format("entry={:#x}", after.entry[s]));
        return;  // the answer is adopted already
      }
      state_.store_word(after.entry_gpa[s], got_.path[i].entry[s], Hand::kWalker);
      if (!same_table(i, s, after)) break;
    }
  }
}

bool AccessJudge::same_table(unsigned i, unsigned s, const Walk& after) const {
  return s < fresh_.part[i].walk.count && fresh_.part[i].walk.entry_gpa[s] == after.entry_gpa[s];
}

}  // namespace twinwalk::oracle
