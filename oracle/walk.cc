#include "oracle/walk.h"

namespace twinwalk::oracle {

Controls controls_of(const Registers& r, bool implicit) {
  Controls c;
  c.wp = r.cr0 & cr0::kWp;
  c.smep = r.cr4 & cr4::kSmep;
  c.smap = r.cr4 & cr4::kSmap;
  c.pke = r.cr4 & cr4::kPke;
  c.nxe = r.efer & efer::kNxe;
  c.ac = r.ac;
  c.implicit = implicit;
  c.user_mode = r.cpl == 3 && !implicit;
  c.pkru = r.pkru;
  return c;
}

std::uint32_t attempt_bits(const Controls& c, AccessKind kind) {
  std::uint32_t bits = 0;
  if (stores(kind)) bits |= pfec::kW;
  if (c.user_mode) bits |= pfec::kU;
  // 4-level paging implies CR4.PAE=1, so NXE alone decides beside SMEP.
  if (kind == AccessKind::kFetch && (c.smep || c.nxe)) bits |= pfec::kI;
  return bits;
}

RightsCheck check_rights(const Controls& c, AccessKind kind, const Rights& rights) {
  const bool fetch = kind == AccessKind::kFetch;
  const bool store = stores(kind);
  bool pass = true;
  if (c.user_mode) {
    pass = rights.user() && (!store || rights.writable());
  } else if (rights.user()) {
    if (fetch) {
      pass = !c.smep;
    } else {
      // SMAP: explicit accesses pass with EFLAGS.AC=1, implicit ones never.
      pass = !c.smap || (!c.implicit && c.ac);
    }
  }
  if (!c.user_mode && store && c.wp && !rights.writable()) pass = false;
  if (fetch && c.nxe && !rights.executable()) pass = false;

  bool key_violation = false;
  if (c.pke && rights.user() && !fetch) {
    const std::uint32_t key = c.pkru >> (2 * rights.key) & 3;
    const bool access_disabled = key & 1, write_disabled = key & 2;
    key_violation = access_disabled || (write_disabled && store && (c.user_mode || c.wp));
  }
  if (pass && !key_violation) return {};
  return {false, pfec::kP | attempt_bits(c, kind) | (key_violation ? pfec::kPk : 0)};
}

void walk(const GuestMemory& memory, const EntryRules& rules, std::uint64_t cr3, std::uint64_t gva,
          Walk& out) {
  const PagingMode& mode = *rules.mode;
  const std::uint64_t index_mask = ((1u << mode.index_bits) - 1) * std::uint64_t{mode.entry_bytes};
  std::uint64_t table = cr3 & pte::kAddressMask;
  Rights rights;
  unsigned n = 0, level = mode.levels, shift = mode.shift(level);
  const Memslot* slot = memory.slots().find(table);
  for (;; --level, shift -= mode.index_bits, ++n) {
    const std::uint64_t at = table + ((gva >> shift) * mode.entry_bytes & index_mask);
    // Tables mostly lie in one slot: looked up again only where they do not.
    if (slot == nullptr || at - slot->gpa >= slot->bytes) slot = memory.slots().find(at);
    if (slot == nullptr) {
      out.stop = Stop::kNoMemory;
      break;
    }
    const std::uint64_t entry = memory.image().load(Memslots::hva_of(*slot, at));
    out.entry[n] = entry;
    out.entry_gpa[n] = at;
    if (!(entry & pte::kP)) {
      out.stop = Stop::kNotPresent;
      ++n;
      break;
    }
    const bool leaf = rules.is_leaf(entry, level);
    if (entry & (leaf ? rules.leaf : rules.table)[level]) {
      out.stop = Stop::kReserved;
      ++n;
      break;
    }
    rights.take(entry);
    table = entry & pte::kAddressMask;
    if (leaf) {
      const std::uint64_t offset = (std::uint64_t{1} << shift) - 1;
      rights.key = static_cast<std::uint8_t>((entry & pte::kPkeyMask) >> pte::kPkeyShift);
      out.gpa = (table & ~offset) | (gva & offset);
      out.stop = Stop::kLeaf;
      ++n;
      break;
    }
  }
  out.level = static_cast<std::uint8_t>(level);
  out.count = static_cast<std::uint8_t>(n);
  out.rights = rights;
}

}  // namespace twinwalk::oracle
