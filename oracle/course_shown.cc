// What a subject that takes a course shows: its outcome, and the guest's entries.

#include "oracle/course.h"

namespace twinwalk::oracle {

Outcome outcome_of(const GuestAccess& access, const Course& c) {
  const AccessQuery& q = *access.context.query;
  Outcome o;
  o.kind = c.kind;
  switch (c.kind) {
    case OutcomeKind::kOk: {
      for (unsigned i = 0; i < c.parts; ++i) o.gpa[i] = c.hpa[i];
      if (q.kind == AccessKind::kWrite) break;
      const bool fetch = q.kind == AccessKind::kFetch;
      const Loaded load{{fetch ? c.hpa[0] & ~std::uint64_t{7} : c.hpa[0], c.hpa[1]}, byte_count(q)};
      o.value = access.state->load(load.gpa[0], load.gpa[1], load.bytes);
      for (unsigned b = 0; b < load.bytes; ++b) o.value |= c.set_in_byte(load.byte(b)) << 8 * b;
      break;
    }
    case OutcomeKind::kMmio:
      o.gpa[0] = c.hpa[c.part];
      o.write = stores(q.kind);
      break;
    case OutcomeKind::kPageFault:
      o.error_code = c.error_code;
      o.cr2 = c.gva;
      break;
    case OutcomeKind::kEptViolation:
    case OutcomeKind::kNestedFault:
      o.qualification = c.qualification;
      if (c.qualification & eqx::kGvaValid && c.kind == OutcomeKind::kEptViolation) o.cr2 = c.gva;
      o.gpa[0] = c.gpa;
      break;
    case OutcomeKind::kEptMisconfig:
      o.gpa[0] = c.gpa;
      break;
    default:
      break;
  }
  return o;
}

namespace {

// Where a gpa leads to as the second dimension is now, rights apart. False: nowhere.
bool look_up(const MachineState& state, const Nested& nested, std::uint64_t gpa,
             std::uint64_t& hpa) {
  const NestedFormat& format = nested.format;
  if (!format.translates(gpa)) return false;
  std::uint64_t table = nested.root;
  for (unsigned level = format.levels;; --level) {
    std::uint64_t entry;
    if (!state.memory().read(format.entry_at(table, gpa, level), entry)) return false;
    if (!format.is_present(entry) || format.misconfigured(entry, level)) return false;
    table = format.frame(entry, level);
    if (!format.is_leaf(entry, level)) continue;
    hpa = table | (gpa & ((std::uint64_t{1} << NestedFormat::shift(level)) - 1));
    return state.is_memory(hpa);
  }
}

}  // namespace

GuestPath guest_path(const GuestAccess& access, std::uint64_t gva) {
  const MachineState& state = *access.state;
  const EntryRules& rules = *access.context.rules;
  const PagingMode& mode = *rules.mode;
  GuestPath out;
  std::uint64_t table = access.context.root.cr3 & mode.root_mask;
  for (unsigned level = mode.levels; level >= 1; --level) {
    std::uint64_t hpa;
    if (!look_up(state, state.vcpu(access.vcpu).guest.nested(),
                 mode.entry_gpa(table, mode.linear(gva), level), hpa)) {
      out.whole = false;
      break;
    }
    const std::uint64_t entry = state.load_entry(hpa, mode.entry_bytes);
    out.at[out.path.count] = hpa;
    out.path.entry[out.path.count++] = entry;
    if (!(entry & pte::kP) || rules.is_leaf(entry, level)) break;
    table = rules.frame(entry, level);
  }
  return out;
}

FreshOutcome fresh_in_guest(const MachineState& state, unsigned vcpu, const AccessQuery& query) {
  const GuestAccess access = make_guest_access(state, vcpu, query);
  Course c;
  walk_course(access, nullptr, c);
  const Outcome o = outcome_of(access, c);
  FreshOutcome out;
  out.kind = o.kind;
  out.error_code = o.error_code;
  out.cr2 = o.cr2;
  out.qualification = o.qualification;
  out.value = o.value;
  const bool completes = c.kind == OutcomeKind::kOk || c.kind == OutcomeKind::kMmio;
  for (unsigned i = 0; i < 2; ++i) {
    out.gpa[i] = o.gpa[i];
    if (i >= c.parts) continue;
    const std::uint64_t gva = i == 0 ? query.gva : (first_byte(query) | (kPageBytes - 1)) + 1;
    const GuestPath path = guest_path(access, gva);
    out.path[i] = path.path;
    for (unsigned s = 0; completes && s < path.path.count; ++s)
      out.path[i].entry[s] |= c.set_in_entry(path.at[s], access.context.rules->mode->entry_bytes);
  }
  return out;
}

}  // namespace twinwalk::oracle
