#include "oracle/walk.h"

namespace twinwalk::oracle {

std::uint32_t attempt_bits(const Controls& c, AccessKind kind) {
  std::uint32_t bits = 0;
  if (stores(kind)) bits |= pfec::kW;
  if (c.user_mode) bits |= pfec::kU;
  if (kind == AccessKind::kFetch && (c.smep || c.nxe)) bits |= pfec::kI;
  return bits;
}

RightsCheck check_rights(const Controls& c, AccessKind kind, const Rights& rights) {
  const Needs needs = needs_of(c, kind);
  bool key_violation = false;
  if (needs.keys && rights.user()) {
    const std::uint32_t key = c.pkru >> (2 * rights.key) & 3;
    const bool access_disabled = key & 1, write_disabled = key & 2;
    key_violation = access_disabled || (write_disabled && stores(kind) && (c.user_mode || c.wp));
  }
  if (needs.met_by(rights) && !key_violation) return {};
  return {false, pfec::kP | attempt_bits(c, kind) | (key_violation ? pfec::kPk : 0)};
}

namespace {

// A walk from PDPTE registers: they were checked when they were loaded.
void walk_registers(const GuestMemory& memory, const EntryRules& rules, const WalkRoot& root,
                    std::uint64_t gva, Walk& out) {
  const unsigned index = static_cast<unsigned>(gva >> 30) & 3;
  const std::uint64_t entry = root.pdptes->entry[index];
  out.entry[0] = entry;
  out.entry_gpa[0] = gpa_of_pdpte(root.cr3, index);
  std::uint64_t in_memory = 0;
  const bool readable = memory.read(out.entry_gpa[0], in_memory);
  if (root.pdptes->known && (entry & pte::kP)) {
    walk_from<kRowPae>(memory, rules, entry & pte::kAddressMask, 1, gva, out);
  } else {
    out.stop = root.pdptes->known ? Stop::kNotPresent : Stop::kNoMemory;
    out.count = root.pdptes->known ? 1 : 0;
    out.level = 3;
    out.plain = 1;
    out.rights = Rights{};
  }
  out.apart = !readable || in_memory != entry;
}

void walk_nothing(std::uint64_t gva, Walk& out) {
  out.stop = Stop::kLeaf;
  out.count = 0;
  out.level = 1;
  out.plain = 0;
  out.apart = false;
  out.rights = Rights{};
  out.gpa = gva;
}

}  // namespace

void walk_elsewhere(const GuestMemory& memory, const EntryRules& rules, const WalkRoot& root,
                    std::uint64_t gva, Walk& out) {
  const std::uint64_t table = root.cr3 & rules.mode->root_mask;
  switch (rules.mode - kModes) {
    case kRowNone:
      return walk_nothing(gva, out);
    case kRow32:
      return walk_from<kRow32>(memory, rules, table, 0, gva, out);
    case kRow32Pse:
      return walk_from<kRow32Pse>(memory, rules, table, 0, gva, out);
    case kRowPae:
      if (root.pdptes != nullptr) return walk_registers(memory, rules, root, gva, out);
      return walk_from<kRowPae>(memory, rules, table, 0, gva, out);
    case kRow5Level:
      return walk_from<kRow5Level>(memory, rules, table, 0, gva, out);
    default:
      return walk_from<kRow4Level>(memory, rules, table, 0, gva, out);
  }
}

}  // namespace twinwalk::oracle
