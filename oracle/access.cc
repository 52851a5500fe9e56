#include "oracle/access.h"

#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

// What a walk that is not plainly a success makes of its part.
[[gnu::noinline]] void settle_part(const AccessContext& c, AccessPart& part) {
  const Controls controls = c.controls();
  part.faults = true;
  switch (part.walk.stop) {
    case Stop::kLeaf: {
      const RightsCheck check = check_rights(controls, c.query->kind, part.walk.rights);
      part.faults = !check.pass;
      part.error_code = check.error_code;
      break;
    }
    case Stop::kReserved:
      part.error_code = pfec::kP | pfec::kRsvd | attempt_bits(controls, c.query->kind);
      break;
    case Stop::kNotPresent:
    case Stop::kNoMemory:
      part.error_code = attempt_bits(controls, c.query->kind);
      break;
  }
}

[[gnu::always_inline]] inline void fresh_part(const MachineState& state, const AccessContext& c,
                                              AccessPart& part) {
  walk(state.memory(), *c.rules, c.root, part.gva, part.walk);
  part.faults = false;
  const bool plain = part.walk.stop == Stop::kLeaf && c.needs.met_by(part.walk.rights);
  if (!plain || c.needs.keys) settle_part(c, part);
}

bool due_in_read_only(const MachineState& state, const Walk& w, bool store) {
  for (unsigned i = 0; i < w.count; ++i) {
    if (owed_bits(w, i, store) != 0 && !state.is_writable(w.entry_gpa[i])) return true;
  }
  return false;
}

// A load from an entry of its own path sees the A and D that the walk has just set there.
void see_own_bits(const MachineState& state, unsigned entry_bytes, const Loaded& load, bool store,
                  FreshAccess& f) {
  std::uint64_t sure = f.value;
  for (unsigned i = 0; i < f.parts; ++i) {
    const Walk& w = f.part[i].walk;
    for (unsigned s = 0; s < w.count; ++s) {
      const std::uint64_t at = w.entry_gpa[s], bits = owed_bits(w, s, store);
      f.value = with_set_bits(state, load, at, entry_bytes, bits, f.value);
      if (state.is_writable(at)) sure = with_set_bits(state, load, at, entry_bytes, bits, sure);
    }
  }
  f.doubtful = f.value & ~sure;
}

// The access by the walks of its parts, none of which faults.
template <unsigned kParts>
[[gnu::always_inline]] inline void complete(const MachineState& state, const AccessContext& c,
                                            FreshAccess& out) {
  const bool store = stores(c.query->kind);
  std::uint64_t owed = 0;
  for (unsigned i = 0; i < kParts; ++i) {
    const Walk& w = out.part[i].walk;
    const Memslot* slot = state.memory().slots().find(w.gpa);
    const bool mmio = slot == nullptr || (store && slot->read_only);
    if (mmio && out.kind == OutcomeKind::kOk) {
      out.kind = OutcomeKind::kMmio;
      out.which = static_cast<std::uint8_t>(i);
    }
    const std::uint64_t missing =
        (pte::kA & ~w.rights.every) | (store && w.count != 0 ? pte::kD & ~w.entry[w.count - 1] : 0);
    if (missing != 0) out.table_read_only |= due_in_read_only(state, w, store);
    owed |= missing;
  }
  out.anything_owed = owed != 0;
  if (out.kind == OutcomeKind::kOk && c.query->kind != AccessKind::kWrite) {
    std::uint64_t gpa = out.part[0].walk.gpa;
    if (c.query->kind == AccessKind::kFetch) gpa &= ~std::uint64_t{7};
    const unsigned bytes = byte_count(*c.query);
    out.value = state.load(gpa, kParts == 2 ? out.part[1].walk.gpa : 0, bytes);
    if (owed != 0)
      see_own_bits(state, c.rules->mode->entry_bytes, {{gpa, out.part[1].walk.gpa}, bytes}, store,
                   out);
  }
}

// Precondition: the parts' addresses are set, and canonical.
template <unsigned kParts>
[[gnu::always_inline]] inline void fresh_parts(const MachineState& state, const AccessContext& c,
                                               FreshAccess& out) {
  out.parts = kParts;
  for (unsigned i = 0; i < kParts; ++i) {
    AccessPart& part = out.part[i];
    fresh_part(state, c, part);
    if (!part.faults) continue;
    out.table_without_memory |= part.walk.stop == Stop::kNoMemory;
    if (out.kind != OutcomeKind::kPageFault) out.which = static_cast<std::uint8_t>(i);
    out.kind = OutcomeKind::kPageFault;
  }
  if (out.kind != OutcomeKind::kPageFault) return complete<kParts>(state, c, out);
  // The half that does not fault owes its A and D too, if the subject gets to it.
  for (unsigned i = 0; i < kParts; ++i) {
    if (!out.part[i].faults)
      out.table_read_only |= due_in_read_only(state, out.part[i].walk, stores(c.query->kind));
  }
}

void fresh_crossing(const MachineState& state, const AccessContext& c, FreshAccess& out) {
  out.part[1].gva = c.rules->mode->linear((first_byte(*c.query) | (kPageBytes - 1)) + 1);
  if (c.rules->mode->canonical(out.part[1].gva)) {
    fresh_parts<2>(state, c, out);
  } else {
    out.kind = OutcomeKind::kGp;
  }
}

}  // namespace

std::uint64_t with_set_bits(const MachineState& state, const Loaded& load, std::uint64_t entry_gpa,
                            unsigned entry_bytes, std::uint64_t bits, std::uint64_t value) {
  if (bits == 0) return value;
  if (!state.range_meets(load.gpa[0], load.gpa[1], load.bytes, entry_gpa, entry_bytes))
    return value;
  for (unsigned b = 0; b < load.bytes; ++b) {
    const std::uint64_t at = load.byte(b);  // A and D lie in the entry's first byte
    if ((at & (entry_bytes - 1)) == 0 && state.memory().slots().same_byte(at, entry_gpa))
      value |= bits << (8 * b);
  }
  return value;
}

AccessQuery query_of(const Step& step, const Registers& registers) {
  const Op& op = step.what;
  AccessQuery q;
  q.gva = op.gva;
  q.size = static_cast<std::uint8_t>(op.size >= 1 && op.size <= 8 ? op.size : 8);
  q.kind = op.access();
  q.implicit = op.implicit != 0;
  q.value = op.value;
  q.registers = registers;
  if (op.given & kCplGiven) q.registers.cpl = static_cast<std::uint8_t>(op.cpl);
  return q;
}

void fresh_access(const MachineState& state, const AccessContext& c, FreshAccess& out) {
  out.kind = OutcomeKind::kOk;
  out.parts = out.which = 0;
  out.table_without_memory = out.table_read_only = out.anything_owed = false;
  out.value = out.doubtful = 0;
  constexpr const PagingMode& kHot = kModes[kRow4Level];
  const PagingMode& mode = *c.rules->mode;
  const bool hot = &mode == &kHot;
  out.part[0].gva = hot ? c.query->gva : mode.linear(c.query->gva);
  if (!(hot ? kHot.canonical(c.query->gva) : mode.canonical(out.part[0].gva))) {
    out.kind = OutcomeKind::kGp;
  } else if ((first_byte(*c.query) & (kPageBytes - 1)) + byte_count(*c.query) > kPageBytes) {
    fresh_crossing(state, c, out);
  } else {
    fresh_parts<1>(state, c, out);
  }
}

bool walk_canonical_half(const MachineState& state, const AccessContext& c, FreshAccess& out) {
  const std::uint64_t last = first_byte(*c.query) + byte_count(*c.query) - 1;
  out.part[0].gva = c.query->gva;
  out.part[1].gva = last & ~(kPageBytes - 1);
  if (((last ^ c.query->gva) & ~(kPageBytes - 1)) == 0) return false;
  for (unsigned i = 0; i < 2; ++i) {
    if (!c.rules->mode->canonical(out.part[i].gva)) continue;
    AccessPart& other = out.part[1 - i];
    other.faults = false;
    other.walk.stop = Stop::kNotPresent;
    other.walk.count = 0;
    fresh_part(state, c, out.part[i]);
    out.table_without_memory = out.part[i].walk.stop == Stop::kNoMemory;
    out.which = static_cast<std::uint8_t>(i);
    out.parts = 2;
    return true;
  }
  return false;
}

const Rule& deciding_rule(const AccessContext& c, const AccessPart& part) {
  switch (part.walk.stop) {
    case Stop::kNotPresent:
      return part.walk.apart && part.walk.count == 1 ? rules::kPdpte : rules::kPresent;
    case Stop::kReserved:
      return part.walk.level == 3 && part.walk.plain != 0 ? rules::kPdpteAmd : rules::kReserved;
    case Stop::kNoMemory:
      return rules::kTableMmio;
    case Stop::kLeaf:
      break;
  }
  if (!part.faults) return rules::kFresh;
  const Rights& r = part.walk.rights;
  const Controls controls = c.controls();
  const bool fetch = c.query->kind == AccessKind::kFetch;
  if (part.error_code & pfec::kPk) return rules::kProtectionKeys;
  if (!controls.user_mode && r.user() && fetch && controls.smep) return rules::kSmep;
  if (fetch && controls.nxe && !r.executable()) return rules::kNoExecute;
  if (!controls.user_mode && r.user() && !fetch && controls.smap &&
      (controls.implicit || !controls.ac)) {
    return rules::kSmap;
  }
  if (!controls.user_mode && stores(c.query->kind)) return rules::kWriteProtect;
  return rules::kRights;
}

Outcome to_outcome(const AccessContext& c, const FreshAccess& f) {
  Outcome o;
  o.kind = f.kind;
  const AccessPart& part = f.part[f.which];
  switch (f.kind) {
    case OutcomeKind::kPageFault:
      o.error_code = part.error_code;
      o.cr2 = part.gva;
      break;
    case OutcomeKind::kMmio:
      o.gpa[0] = part.walk.gpa;
      o.write = stores(c.query->kind);
      break;
    case OutcomeKind::kOk:
      for (unsigned i = 0; i < f.parts; ++i) o.gpa[i] = f.part[i].walk.gpa;
      o.value = f.value;
      break;
    default:
      break;
  }
  return o;
}

namespace {

// A PDPTE of PAE takes no A, but the word may serve as an entry below as well.
bool is_flagged(const FreshAccess& f, std::uint64_t entry_gpa) {
  for (unsigned i = 0; i < f.parts; ++i) {
    const Walk& w = f.part[i].walk;
    for (unsigned s = w.plain; s < w.count; ++s)
      if (w.entry_gpa[s] == entry_gpa) return true;
  }
  return false;
}

}  // namespace

FreshOutcome to_fresh_outcome(const AccessContext& c, const FreshAccess& f) {
  FreshOutcome out;
  out.kind = f.kind;
  const AccessPart& part = f.part[f.which];
  std::uint64_t owed = 0;  // in every entry
  if (f.kind == OutcomeKind::kOk) {
    out.value = f.value;
    owed = pte::kA;
    for (unsigned i = 0; i < f.parts; ++i) out.gpa[i] = f.part[i].walk.gpa;
  } else if (f.kind == OutcomeKind::kMmio) {
    owed = pte::kA;
    out.gpa[0] = part.walk.gpa;
  } else if (f.kind == OutcomeKind::kPageFault) {
    out.error_code = part.error_code;
    out.cr2 = part.gva;
  } else if (f.kind == OutcomeKind::kGp && f.parts != 0 && part.faults) {
    out.or_page_fault = true;
    out.error_code = part.error_code;
    out.cr2 = part.gva;
  }
  for (unsigned i = 0; i < f.parts; ++i) {
    const Walk& w = f.part[i].walk;
    out.path[i].count = w.count;
    for (unsigned s = 0; s < w.count; ++s)
      out.path[i].entry[s] =
          s < w.plain && !is_flagged(f, w.entry_gpa[s]) ? w.entry[s] : w.entry[s] | owed;
    if (owed == 0 || !stores(c.query->kind)) continue;
    // Through a self-map a leaf, of either part, may serve at other steps too: it shows D at each.
    for (unsigned part_of = 0; part_of < f.parts; ++part_of) {
      const Walk& mapped = f.part[part_of].walk;
      for (unsigned s = 0; s < w.count; ++s)
        if (w.entry_gpa[s] == mapped.entry_gpa[mapped.count - 1]) out.path[i].entry[s] |= pte::kD;
    }
  }
  return out;
}

}  // namespace twinwalk::oracle
