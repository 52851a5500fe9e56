#include "harness/processor/guest_processor.h"

#include <algorithm>

#include "harness/processor/touch_memory.h"

namespace twinwalk::processor {
namespace {

constexpr unsigned kBitPresent = 0, kBitWrite = 1, kBitUser = 2, kBitGlobal = 8, kBitXd = 63;
constexpr std::uint64_t kAccessed = bit(5), kDirty = bit(6), kInPage = 4095;

constexpr bool has(std::uint64_t entry, unsigned n) { return entry >> n & 1; }
// The TLB's page size of a guest's page of 2^shift bytes: 4M ones are held as 2M.
constexpr unsigned level_of(unsigned shift) { return shift < 21 ? 1 : shift < 30 ? 2 : 3; }
constexpr std::uint64_t page_base(std::uint64_t address, unsigned level) {
  return address & ~(bit(12 + 9 * (level - 1)) - 1);
}

}  // namespace

struct GuestProcessor::Place {
  std::uint64_t hpa = 0, gpa = 0;
  std::uint8_t nested_level = 1;
  NestedRights nested;
  bool nested_dirty = false;
};

void GuestProcessor::reset(const Machine& machine) {
  policy_ = machine.tlb;
  cache_.reset(policy_ == TlbPolicy::kSmall ? machine.tlb_entries : CombinedCache::kCapacity);
  second_.reset(machine);
  rules_.reset(machine);
  amd_ = machine.vendor == Vendor::kAmd;
}

Context GuestProcessor::context_of(const GuestControls& c) const {
  Context context;
  context.vcpu = c.vcpu;
  context.vpid = c.nested.vpid;
  context.pcid = pcid_of(c.registers);
  context.ep4ta = SecondDimension::ep4ta(c.nested);
  return context;
}

// What the second dimension is asked for the data itself.
GpaAccess GuestProcessor::final_access(const GuestControls& c, const GuestNeed& need,
                                       const Rights& rights) const {
  GpaAccess a;
  a.read = need.read;
  a.write = need.write;
  a.fetch = need.fetch;
  a.user_linear = rights.user;
  const bool xd = !rights.execute && (c.registers.efer & efer::kNxe);
  a.advanced =
      static_cast<std::uint8_t>((rights.user ? 1 : 0) | (rights.write ? 2 : 0) | (xd ? 4 : 0));
  return a;
}

// ---- one part of an access

GuestProcessor::Stop GuestProcessor::translate(const GuestControls& c, const GuestNeed& need,
                                               std::uint64_t gva, Place& place,
                                               GuestResult& result) {
  bool from_cache = false;
  Stop stop = attempt(c, need, gva, place, result, from_cache);
  if (stop != Stop::kPageFault) return stop;
  drop_faulting(c, gva);
  // AMD never faults by what was only cached: APM 2 §"TLB Management".
  if (!amd_ || !from_cache) return stop;
  stop = attempt(c, need, gva, place, result, from_cache);
  if (stop == Stop::kPageFault) drop_faulting(c, gva);
  return stop;
}

GuestProcessor::Stop GuestProcessor::attempt(const GuestControls& c, const GuestNeed& need,
                                             std::uint64_t gva, Place& place, GuestResult& result,
                                             bool& from_cache) {
  if (guest_mode(c.registers) == kOff) return finish(c, need, gva, gva, {}, place, result);
  const Context context = context_of(c);
  if (const Mapping* const m = cache_.find(context, gva)) {
    from_cache = true;
    result.error_code = need.violation(m->rights, m->key);
    if (result.error_code) return Stop::kPageFault;
    const std::uint64_t offset = gva - page_base(gva, m->level);
    const GpaAccess access = final_access(c, need, m->rights);
    if (SecondDimension::allows(m->nested, access)) {
      if (!need.write || (m->guest_dirty && m->nested_dirty)) {
        place = {m->base + offset, m->gpa + offset, m->level, m->nested, m->nested_dirty};
        return Stop::kNone;
      }
    } else if (c.nested.kind == NestedFormat::Kind::kEpt) {
      second_.refuse(c.nested, c.vcpu, m->gpa + offset, access, m->nested, result.exit);
      drop_way(c, gva);
      return Stop::kExit;
    }
  }
  return walk(c, need, gva, place, result, from_cache);
}

// The gpa of the data is known: through the second dimension, whose refusal takes the combined
// mappings of this linear address along. SDM 3C §"Operations that Invalidate Cached Mappings".
GuestProcessor::Stop GuestProcessor::finish(const GuestControls& c, const GuestNeed& need,
                                            std::uint64_t gva, std::uint64_t gpa,
                                            const Rights& rights, Place& place,
                                            GuestResult& result) {
  HostPage page;
  if (!second_.translate(c.nested, c.vcpu, gpa, final_access(c, need, rights), page, result.exit)) {
    const auto kind = result.exit.kind;
    if (kind == NestedExit::Kind::kEptViolation || kind == NestedExit::Kind::kNestedFault)
      drop_way(c, gva);
    return Stop::kExit;
  }
  place = {page.hpa, gpa, page.level, page.rights, page.dirty};
  return Stop::kNone;
}

GuestProcessor::Stop GuestProcessor::walk(const GuestControls& c, const GuestNeed& need,
                                          std::uint64_t gva, Place& place, GuestResult& result,
                                          bool& from_cache) {
  const GuestMode mode = guest_mode(c.registers);
  const GuestFormat& format = kGuestFormats[mode];
  const bool nxe = c.registers.efer & efer::kNxe;
  const bool registers = mode == kThree && !amd_;
  const Context context = context_of(c);
  GpaAccess to_table;
  to_table.read = to_table.table = true;
  to_table.write = second_.tables_are_written(c.nested);

  unsigned level = registers ? 2 : format.levels;
  std::uint64_t table = c.registers.cr3 & format.root;
  Rights rights;
  HostPage at;  // of the table
  bool placed = false, parent = false, by_structure = false;
  for (unsigned l = 2; l <= level; ++l) {
    const Structure* const s = cache_.find_structure(context, gva, l, format.shift_of(l));
    if (!s) continue;
    from_cache = by_structure = true;
    level = l - 1;
    table = s->gpa;
    rights = s->rights;
    at = {s->table, 1, s->nested, true};
    placed = SecondDimension::allows(s->nested, to_table);
    break;
  }
  if (registers && !by_structure) {
    const std::uint64_t pdpte = c.pdpte[gva >> 30 & 3];
    if (!has(pdpte, kBitPresent)) {
      result.error_code = need.code;
      return Stop::kPageFault;
    }
    table = pdpte & kAddressBits;
  }
  for (;; placed = false) {
    const std::uint64_t entry_gpa = format.entry_at(table, gva, level);
    if (!placed) {
      if (!second_.translate(c.nested, c.vcpu, entry_gpa, to_table, at, result.exit))
        return Stop::kExit;
      at.hpa &= ~kInPage;
      if (parent) {
        memory_.note_reached(at.hpa >> 12);
        cache_.insert_structure(context, gva, level + 1, format.shift_of(level + 1),
                                {at.hpa, table, rights, at.rights});
      }
    }
    std::uint64_t entry, hpa = at.hpa | (entry_gpa & kInPage);
    bool plain, leaf;
    Rights here;
    std::uint64_t flags;
    while (true) {
      entry = memory_.load(hpa, format.entry_bytes);
      if (!has(entry, kBitPresent)) {
        result.error_code = need.code;
        return Stop::kPageFault;
      }
      if (rules_.reserved(mode, nxe, entry, level)) {
        result.error_code = need.code | 9;
        return Stop::kPageFault;
      }
      plain = mode == kThree && level == 3;
      leaf = format.is_leaf(entry, level);
      here = rights;
      if (!plain) {
        here.write &= has(entry, kBitWrite);
        here.user &= has(entry, kBitUser);
        here.execute &= !has(entry, kBitXd);
      }
      const auto key = static_cast<std::uint8_t>(format.is_legacy() ? 0 : entry >> 59 & 15);
      if (leaf) {
        result.error_code = need.violation(here, key);
        if (result.error_code) return Stop::kPageFault;
      }
      flags = plain ? 0 : kAccessed | (leaf && need.write ? kDirty : 0);
      if ((entry & flags) == flags) break;
      if (!at.rights.write) {
        // Without flags of EPT the table was only read so far: its update is a write.
        GpaAccess update = to_table;
        update.read = false;
        update.write = true;
        HostPage again;
        if (!second_.translate(c.nested, c.vcpu, entry_gpa, update, again, result.exit))
          return Stop::kExit;
        at = again;
        at.hpa &= ~kInPage;
        hpa = again.hpa;
        continue;
      }
      if (memory_.compare_exchange(hpa, format.entry_bytes, entry, entry | flags)) break;
      // Where no memory is the entry was 0: an update is lost only to somebody else's store.
    }
    if (!leaf) {
      table = entry & (format.entry_bytes == 4 ? 0xffff'f000 : kAddressBits);
      rights = here;
      parent = true;
      --level;
      continue;
    }
    const unsigned shift = format.shift_of(level);
    const std::uint64_t gpa = format.frame_of(entry, level) | (gva & (bit(shift) - 1));
    const Stop stop = finish(c, need, gva, gpa, here, place, result);
    if (stop != Stop::kNone) return stop;
    Mapping m;
    m.level = static_cast<std::uint8_t>(std::min<unsigned>(level_of(shift), place.nested_level));
    m.base = page_base(place.hpa, m.level);
    m.gpa = page_base(gpa, m.level);
    m.guest_shift = static_cast<std::uint8_t>(shift);
    m.key = static_cast<std::uint8_t>(format.is_legacy() ? 0 : entry >> 59 & 15);
    m.guest_dirty = need.write || (entry & kDirty);
    m.nested_dirty = place.nested_dirty;
    m.rights = here;
    m.nested = place.nested;
    memory_.note_reached(m.base >> 12);
    const bool global = has(entry, kBitGlobal) && (c.registers.cr4 & cr4::kPge);
    cache_.insert(context, gva, global, m);
    return Stop::kNone;
  }
}

void GuestProcessor::access(const GuestControls& c, const Access& access, GuestResult& result) {
  if (policy_ == TlbPolicy::kFresh) cache_.clear();
  const GuestMode mode = guest_mode(c.registers);
  const GuestFormat& format = kGuestFormats[mode];
  const GuestNeed need(c.registers, mode, access);
  // What wraps at 4G goes on at 0: SDM 1 §"Specifying a Segment Selector and Offset" leaves it
  // open.
  const std::uint64_t linear = format.is_legacy() ? 0xffff'ffff : ~std::uint64_t{0};
  const std::uint64_t first = access.gva & linear;
  const std::uint64_t last = (first + (need.fetch ? 0u : access.size - 1u)) & linear;
  result.parts = (first ^ last) >> 12 ? 2 : 1;
  if (!format.is_legacy() &&
      (!is_canonical(first, format.gva_bits) || !is_canonical(last, format.gva_bits))) {
    result.kind = GuestResult::Kind::kGeneralProtection;
    return;
  }
  for (unsigned part = 0; part < result.parts; ++part) {
    const std::uint64_t gva = part == 0 ? first : last & ~kInPage;
    Place place;
    const Stop stop = translate(c, need, gva, place, result);
    result.hpa[part] = place.hpa;
    result.gpa[part] = place.gpa;
    if (stop == Stop::kNone) continue;
    result.kind = stop == Stop::kExit ? GuestResult::Kind::kExit : GuestResult::Kind::kPageFault;
    result.fault_gva = gva;
    return;
  }
  for (unsigned part = 0; part < result.parts; ++part) {
    if (memory_.holds(result.hpa[part])) continue;
    result.kind = GuestResult::Kind::kNoMemory;
    result.hpa[0] = result.hpa[part];
    return;
  }
  result.kind = GuestResult::Kind::kDone;
  const unsigned to_end = static_cast<unsigned>(4096 - (first & kInPage));
  touch_memory(memory_, access, result.parts == 1 ? access.size : to_end, result);
}

void GuestProcessor::load_pdptes(GuestControls& c, std::uint64_t cr3, GuestResult& result) {
  GpaAccess access;
  access.read = access.table = true;
  access.gva_valid = false;
  const std::uint64_t gpa = cr3 & kGuestFormats[kThree].root;
  HostPage page;
  if (!second_.translate(c.nested, c.vcpu, gpa, access, page, result.exit)) {
    result.kind = GuestResult::Kind::kExit;
    return;
  }
  std::uint64_t loaded[4];
  for (unsigned i = 0; i < 4; ++i) {
    loaded[i] = memory_.load(page.hpa + i * 8, 8);
    if (has(loaded[i], kBitPresent) && (loaded[i] & rules_.reserved_in_pdpte())) {
      result.kind = GuestResult::Kind::kGeneralProtection;
      return;
    }
  }
  std::copy(loaded, loaded + 4, c.pdpte);
  result.kind = GuestResult::Kind::kDone;
}

// ---- invalidation

// The size of the guest's page that holds the address, as its tables are now: all fragments of it
// go together. SDM 3A §"Large Page Size Considerations". 4K where there is none.
unsigned GuestProcessor::page_shift_now(const GuestControls& c, std::uint64_t gva) const {
  constexpr unsigned kSmall = 12, kLargest = 30;
  const GuestMode mode = guest_mode(c.registers);
  const GuestFormat& format = kGuestFormats[mode];
  if (mode == kOff) return kSmall;
  std::uint64_t table = c.registers.cr3 & format.root;
  unsigned level = format.levels;
  if (mode == kThree && !amd_) {
    const std::uint64_t pdpte = c.pdpte[gva >> 30 & 3];
    if (!has(pdpte, kBitPresent)) return kSmall;
    table = pdpte & kAddressBits;
    level = 2;
  }
  for (; level > 1; --level) {
    std::uint64_t hpa;
    // A table that is out of reach may say anything.
    if (!second_.peek(c.nested, format.entry_at(table, gva, level), hpa)) return kLargest;
    const std::uint64_t entry = memory_.look(hpa, format.entry_bytes);
    if (!has(entry, kBitPresent)) return kSmall;
    if (format.is_leaf(entry, level)) return format.shift_of(level);
    table = entry & kAddressBits;
  }
  return kSmall;
}

// Combined mappings of the address in the current PCID, and structures on its way.
void GuestProcessor::drop_way(const GuestControls& c, std::uint64_t gva) {
  const GuestMode mode = guest_mode(c.registers);
  if (mode == kOff) return;
  const Context context = context_of(c);
  const GuestFormat& format = kGuestFormats[mode];
  for (unsigned level = 2; level <= format.levels; ++level)
    cache_.drop_structure(context, gva, level, format.shift_of(level));
  cache_.drop_page(
      [&](const Context& x) {
        Context own = x;
        if (own.pcid == Context::kGlobal) own.pcid = context.pcid;
        return own == context;
      },
      gva, 12);
}

void GuestProcessor::drop_faulting(const GuestControls& c, std::uint64_t gva) {
  drop_way(c, gva);
  const unsigned shift = page_shift_now(c, gva);
  if (shift == 12) return;
  const Context context = context_of(c);
  cache_.drop_page(
      [&](const Context& x) {
        Context own = x;
        if (own.pcid == Context::kGlobal) own.pcid = context.pcid;
        return own == context;
      },
      gva, shift);
  // The page number is that of the large page: structures that only a part of it used go, too.
  const GuestFormat& format = kGuestFormats[guest_mode(c.registers)];
  cache_.drop_structures_within([&](const Context& x) { return x == context; }, gva, shift,
                                [&](unsigned level) { return format.shift_of(level); });
}

void GuestProcessor::invlpg(const GuestControls& c, std::uint64_t gva) {
  const GuestFormat& format = kGuestFormats[guest_mode(c.registers)];
  if (format.is_legacy()) {
    gva &= 0xffff'ffff;
  } else if (!is_canonical(gva, format.gva_bits)) {
    return;
  }
  const std::uint16_t pcid = pcid_of(c.registers);
  const auto of_guest = [&](const Context& x) {
    return x.kind == Context::Kind::kOfLinear && x.vcpu == c.vcpu && x.vpid == c.nested.vpid;
  };
  cache_.drop_page(
      [&](const Context& x) {
        return of_guest(x) && (x.pcid == pcid || x.pcid == Context::kGlobal);
      },
      gva, page_shift_now(c, gva));
  cache_.drop_structures([&](const Context& x) { return of_guest(x) && x.pcid == pcid; });
}

void GuestProcessor::invpcid(const GuestControls& c, unsigned type, std::uint16_t pcid,
                             std::uint64_t gva) {
  const auto of_guest = [&](const Context& x) {
    return x.kind == Context::Kind::kOfLinear && x.vcpu == c.vcpu && x.vpid == c.nested.vpid;
  };
  const auto of_pcid = [&](const Context& x) { return of_guest(x) && x.pcid == pcid; };
  switch (type) {
    case 0:
      cache_.drop_page(of_pcid, gva, page_shift_now(c, gva));
      cache_.drop_structures(of_pcid);
      return;
    case 1:
      return cache_.drop(of_pcid);
    case 2:
      return cache_.drop(of_guest);
    default:
      return cache_.drop(
          [&](const Context& x) { return of_guest(x) && x.pcid != Context::kGlobal; });
  }
}

void GuestProcessor::registers_written(const GuestControls& c, TlbEffect effect) {
  switch (effect.kind) {
    case TlbEffect::Kind::kNone:
      return;
    case TlbEffect::Kind::kPcid:
      return invpcid(c, 1, effect.pcid, 0);
    case TlbEffect::Kind::kEverything:
      return invpcid(c, 2, 0, 0);
  }
}

// SDM 3C §"INVEPT": guest-physical and combined mappings, not linear ones.
void GuestProcessor::invept(std::uint8_t vcpu, unsigned type, std::uint64_t eptp) {
  const std::uint64_t ep4ta = eptp & kAddressBits;
  cache_.drop([&](const Context& x) {
    return x.vcpu == vcpu && !x.is_linear() && (type == 2 || x.ep4ta == ep4ta);
  });
}

// SDM 3C §"INVVPID": linear and combined mappings, not guest-physical ones.
void GuestProcessor::invvpid(std::uint8_t vcpu, unsigned type, std::uint16_t vpid,
                             std::uint64_t gva) {
  const auto of_vpid = [&](const Context& x) {
    return x.kind == Context::Kind::kOfLinear && x.vcpu == vcpu && x.vpid == vpid;
  };
  switch (type) {
    case 0:
      cache_.drop_page(of_vpid, gva, 12);
      return cache_.drop_structures(of_vpid);
    case 1:
      return cache_.drop(of_vpid);
    case 2:
      return cache_.drop([&](const Context& x) {
        return x.kind == Context::Kind::kOfLinear && x.vcpu == vcpu && x.vpid != 0;
      });
    default:
      return cache_.drop(
          [&](const Context& x) { return of_vpid(x) && x.pcid != Context::kGlobal; });
  }
}

void GuestProcessor::drop_vpid_0(std::uint8_t vcpu) { invvpid(vcpu, 1, 0, 0); }

// APM 2 §"TLB Flush": 0 nothing, 1 everything, 3 this ASID, 7 this ASID but for global entries.
void GuestProcessor::tlb_control(std::uint8_t vcpu, std::uint16_t asid, unsigned command) {
  switch (command) {
    case 1:
      return drop_vcpu(vcpu);
    case 3:
      return cache_.drop([&](const Context& x) { return x.vcpu == vcpu && x.vpid == asid; });
    case 7:
      return cache_.drop([&](const Context& x) {
        return x.vcpu == vcpu && x.vpid == asid && x.pcid != Context::kGlobal;
      });
    default:
      return;
  }
}

// APM 3 §"INVLPGA": of that ASID, whatever the PCID.
void GuestProcessor::invlpga(const Registers& by, std::uint8_t vcpu, std::uint16_t asid,
                             std::uint64_t gva) {
  if (kGuestFormats[guest_mode(by)].is_legacy()) gva &= 0xffff'ffff;
  invvpid(vcpu, 0, asid, gva);
}

void GuestProcessor::drop_vcpu(std::uint8_t vcpu) {
  cache_.drop([&](const Context& x) { return x.vcpu == vcpu; });
}

}  // namespace twinwalk::processor
