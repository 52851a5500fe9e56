#include "oracle/stale_match.h"

namespace twinwalk::oracle {

bool shown_bits_fit(const MachineState& state, const Observation& seen, unsigned part,
                    const std::uint64_t (&landing)[2], const StaleWalk* stale) {
  if (!seen.has_path(part)) return true;
  const Walk& w = seen.fresh.part[part].walk;
  const Path& path = seen.got.path[part];
  const bool overwrites = seen.store() && seen.got.kind == OutcomeKind::kOk;
  for (unsigned s = 0; s < w.count && s < path.count; ++s) {
    if (overwrites && state.range_meets(landing[0], landing[1], seen.context.query->size,
                                        w.entry_gpa[s], seen.context.rules->mode->entry_bytes)) {
      break;
    }
    if (stale != nullptr && (s >= stale->count || stale->entry_gpa[s] != w.entry_gpa[s])) continue;
    const std::uint64_t owed =
        stale != nullptr ? stale->owed(s, seen.store()) : owed_bits(w, s, seen.store());
    if (owed & ~path.entry[s]) return false;
  }
  return true;
}

bool sets_unseen_bits(const Observation& seen, unsigned part, const StaleWalk& walk) {
  const Walk& w = seen.fresh.part[part].walk;
  for (unsigned s = 0; s < walk.count; ++s) {
    const bool shown = s < w.count && w.entry_gpa[s] == walk.entry_gpa[s];
    if (!shown && walk.owed(s, seen.store()) != 0) return true;
  }
  return false;
}

bool StaleMatcher::search(Profile profile, bool ignore_windows) {
  profile_ = profile;
  ignore_windows_ = ignore_windows;
  too_large_ = false;
  if (seen_.fresh.parts == 0) return false;
  if (seen_.got.kind == OutcomeKind::kPageFault) return search_fault();
  return completes(seen_.got.kind) && search_completion();
}

// First without explanations that walk entries off the present path and owe them A or D: a subject
// that used a cached translation, as is likely, set none, and cannot show that it did not. A shadow
// MMU has no others: the guest's A and D are set by its own walk of the tables as they are, and
// what it shadows from an entry off that path it shadows only with A=1 (for a store D=1) there
// (KVM: FNAME(walk_addr_generic), FNAME(prefetch_invalid_gpte)).
bool StaleMatcher::search_completion() {
  for (const bool only_seen : {true, false}) {
    if (!only_seen && profile_ == Profile::kKvm) break;
    only_seen_bits_ = only_seen;
    if (search_from(0)) return true;
  }
  return false;
}

SearchResult StaleMatcher::search_part(unsigned part) {
  StaleQuery query = make_stale_query(state_, seen_.context, seen_.fresh.part[part].gva);
  query.profile = profile_;
  query.ignore_windows = ignore_windows_;
  const unsigned outer = part_;
  part_ = part;
  const SearchResult result = search_stale(query, *this);
  if (result != SearchResult::kFound) part_ = outer;
  too_large_ |= result == SearchResult::kTooLarge;
  return result;
}

bool StaleMatcher::search_fault() {
  return seen_.fault_address_is_ours() &&
         search_part(seen_.faulting_part()) == SearchResult::kFound;
}

bool StaleMatcher::search_from(unsigned part) {
  const AccessPart& fresh = seen_.fresh.part[part];
  parts_[part].stale = false;
  if (!fresh.faults && part_ok(part, fresh.walk.gpa)) {
    if (part + 1u == seen_.fresh.parts ? whole_ok() : search_from(part + 1)) return true;
  }
  return search_part(part) == SearchResult::kFound;
}

bool StaleMatcher::visit(const StaleWalk& walk) {
  const unsigned part = part_;
  if (seen_.got.kind == OutcomeKind::kPageFault) {
    if (!walk.faults || walk.error_code != seen_.got.error_code) return false;
    parts_[part] = {true, walk};
    return true;
  }
  if (walk.faults || !part_ok(part, walk.gpa)) return false;
  if (only_seen_bits_ && sets_unseen_bits(seen_, part, walk)) return false;
  parts_[part] = {true, walk};
  return part + 1u == seen_.fresh.parts ? whole_ok() : search_from(part + 1);
}

bool StaleMatcher::part_ok(unsigned part, std::uint64_t gpa) const {
  // Of MMIO the outcome gives one address only: whole_ok looks at it.
  if (seen_.got.kind == OutcomeKind::kMmio || seen_.lands_at(part, gpa)) return true;
  // A subject that sees frames cannot tell aliases apart.
  return state_.memory().slots().same_byte(gpa, seen_.got.gpa[part]);
}

bool StaleMatcher::whole_ok() const {
  std::uint64_t mmio = kUnknownGpa;
  for (unsigned i = 0; i < seen_.fresh.parts && mmio == kUnknownGpa; ++i) {
    if (seen_.store() ? !state_.is_writable(gpa(i)) : !state_.is_memory(gpa(i))) mmio = gpa(i);
  }
  const std::uint64_t landing[2] = {gpa(0), seen_.fresh.parts == 2 ? gpa(1) : 0};
  for (unsigned i = 0; i < seen_.fresh.parts; ++i) {
    if (!shown_bits_fit(state_, seen_, i, landing, parts_[i].stale ? &parts_[i].walk : nullptr))
      return false;
  }
  if (seen_.got.kind == OutcomeKind::kMmio)
    return seen_.got.gpa[0] == mmio && seen_.mmio_direction_matches();
  if (mmio != kUnknownGpa) return false;
  return seen_.context.query->kind == AccessKind::kWrite || loaded_fits();
}

bool StaleMatcher::loaded_fits() const {
  const AccessQuery& q = *seen_.context.query;
  const std::uint64_t first = q.kind == AccessKind::kFetch ? gpa(0) & ~std::uint64_t{7} : gpa(0);
  const Loaded load{{first, seen_.fresh.parts == 2 ? gpa(1) : first}, byte_count(q)};
  const unsigned entry_bytes = seen_.context.rules->mode->entry_bytes;
  std::uint64_t set = 0;  // by the way there
  for (unsigned i = 0; i < seen_.fresh.parts; ++i) {
    const Walk& fresh = seen_.fresh.part[i].walk;
    const StaleWalk* stale = parts_[i].stale ? &parts_[i].walk : nullptr;
    for (unsigned s = 0; s < (stale ? stale->count : fresh.count); ++s) {
      const std::uint64_t bits =
          stale ? stale->owed(s, seen_.store()) : owed_bits(fresh, s, seen_.store());
      const std::uint64_t entry = stale ? stale->entry_gpa[s] : fresh.entry_gpa[s];
      set = with_set_bits(state_, load, entry, entry_bytes, bits, set);
    }
  }
  std::uint64_t open = 0;
  if (state_.anything_open())
    for (unsigned b = 0; b < load.bytes; ++b)
      open |= (state_.open_bits(load.byte(b)) & 0xff) << 8 * b;
  const std::uint64_t value = state_.load(load.gpa[0], load.gpa[1], load.bytes) | set;
  return ((value ^ seen_.got.value) & ~(open & ~set)) == 0;
}

}  // namespace twinwalk::oracle
