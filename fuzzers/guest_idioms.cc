#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"

namespace twinwalk::fuzz {
namespace {

constexpr std::uint64_t kTableMask = ~std::uint64_t{0xfff};

void map_and_access(Sketch& s) {
  const std::uint64_t gva = s.pool_gva();
  s.map(gva);
  s.touch(gva, true);
  if (s.rng().flip()) s.touch(gva);
}

// The core of the generator: cache a translation, edit an entry that it came from, invalidate or
// not, look again.
void rewrite_entry(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  if (s.rng().chance(7, 8)) s.warm(gva);
  const Survey::Entry e = s.entry_of(gva);
  s.deliver(e.gpa, s.changed(e));
  s.invalidate(gva);
  s.touch(gva);
  if (s.rng().flip()) s.touch(gva, true);
}

// Two native stores to one table: the first faults, is write-tracked and may leave the table
// unsync; the second runs without the hypervisor's knowledge.
void store_unseen(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  const Survey::Entry e = s.rng().chance(3, 4) ? w.last() : w.entry[s.rng().below(w.count)];
  s.deliver_native(e.gpa, s.rng().flip() ? e.value | pte::kA : s.changed(e));
  if (s.rng().chance(2, 3)) s.warm(gva);
  s.deliver_native(e.gpa, s.changed(e));
  if (s.rng().chance(1, 4)) s.touch(gva);
  s.invalidate(gva);
  s.touch(gva);
  if (s.rng().flip()) s.touch(gva);
}

// One table under two upper entries of different rights, touched through the strong one first or
// last.
void alias_table(Sketch& s) {
  static constexpr std::uint64_t kWeak[] = {pte::kP | pte::kU, pte::kP | pte::kW, pte::kP,
                                            pte::kP | pte::kW | pte::kU | pte::kXd};
  const std::uint64_t gva = s.mapped_gva();
  const Survey::Walk w = s.walk(gva);
  if (w.count < 2) return s.touch(gva);
  const std::uint64_t upper_at = s.rng().below(w.count - 1);  // both addresses share what is above
  const Survey::Entry upper = w.entry[upper_at];
  const std::uint64_t other = gva ^ (std::uint64_t{1 + s.rng().below(3)} << upper.shift);
  const std::uint64_t alias = s.walk(other).entry[upper_at].gpa;
  const bool strong_first = s.rng().flip();
  if (strong_first) s.touch(gva);
  // With equal rights both ways have the same shadow pages.
  const std::uint64_t weak =
      s.rng().chance(1, 3) ? upper.value & ~pte::kAddressMask : s.rng().pick(kWeak) | pte::kA;
  const bool out_of_step = s.rng().flip();  // already when the second way comes
  if (out_of_step) {
    s.warm(gva);
    s.deliver_native(w.last().gpa, s.changed(w.last()));
  }
  s.deliver(alias, (upper.value & pte::kAddressMask) | (upper.pdpte_of_pae ? pte::kP : weak));
  s.load_if_pdpte(upper);
  // The way is made for a neighbour, so that what stood in the table already is used as it is.
  if (out_of_step) s.touch(other ^ kPage);
  s.touch(other);
  s.touch(gva);
  s.touch(other);
  if (s.rng().flip()) {
    const Survey::Entry e = w.last();
    s.deliver(e.gpa, s.changed(e));
    s.invalidate(s.rng().flip() ? gva : other);
    s.touch(gva);
    s.touch(other);
  }
}

// A second root that shares tables with the first; edits under one are looked at under the other.
void share_between_roots(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const std::uint64_t old = s.registers().cr3, other = s.other_root();
  const Survey::Walk w = s.walk(gva);
  const Survey::Entry top = w.entry[0];
  const std::uint64_t index = top.gpa - top.table;
  s.deliver(other + index, s.rng().chance(2, 3) ? top.value : top.value ^ pte::kW);
  s.need_direct_map(0x1000);
  const Survey::Entry direct = s.walk(direct_map(s.mode()) + 0x1000).entry[0];
  s.say(phrase::write(other + (direct.gpa - direct.table), direct.value, direct.bytes,
                      Writer::kGuest));
  s.warm(gva);
  s.say(phrase::mov(Reg::kCr3, other | (old & cr3::kPcidMask)));
  s.touch(gva);
  s.deliver(w.last().gpa, s.changed(w.last()));
  if (s.rng().flip()) s.invalidate(gva);
  if (s.rng().flip()) s.touch(gva);
  s.say(phrase::mov(Reg::kCr3, old));
  s.touch(gva);
}

void self_map(Sketch& s) {
  const Survey::Format f = Survey::format_of(s.mode());
  if (f.levels == 0) return s.touch(s.pool_gva());
  const std::uint64_t root = s.root();
  const bool pae = s.mode() == Mode::kPae;
  const unsigned last = pae ? 3 : (1u << f.index_bits) - 1;
  const std::uint64_t index = s.rng().flip() ? last : 1 + s.rng().below(pae ? 3 : 4);
  s.deliver(root + index * f.bytes, (root & kTableMask) | (pae ? pte::kP : kLinkBits));
  if (pae) s.say(phrase::mov(Reg::kCr3, s.registers().cr3));
  // Address of the root itself through the self-map, and of one table further down.
  const auto through = [&](unsigned times, std::uint64_t rest) {
    std::uint64_t a = 0;
    for (unsigned level = f.levels; level >= 1; --level) {
      const bool self = f.levels - level < times;
      const unsigned from = 12 + f.index_bits * (level + times - 1);
      const std::uint64_t i = self ? index : rest >> from & ((1u << f.index_bits) - 1);
      a |= i << (12 + f.index_bits * (level - 1));
    }
    const unsigned top = s.mode() == Mode::k5Level ? 56 : 47;
    return s.long_mode() && (a & bit(top)) ? a | ~(bit(top) - 1) : a;
  };
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  const std::uint64_t at = through(f.levels, 0);
  s.touch(at);
  Survey::Entry e = s.walk(gva).entry[0];
  const std::uint64_t top = e.gpa & 0xfff;
  s.say(phrase::access(AccessKind::kRead, at + top));
  s.say(phrase::store(at + top, s.changed(e), e.bytes));
  s.invalidate(gva);
  s.touch(gva);
  s.touch(through(1 + s.rng().below(f.levels - 1), gva));
}

// An entry that points back up: the same page serves as table of several levels.
void cycle(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  const Survey::Entry from = w.entry[s.rng().below(w.count)];
  const Survey::Entry to = w.entry[s.rng().below(w.count)];
  s.deliver(from.gpa,
            Sketch::link_to(to.gpa & kTableMask, from) | (s.rng().chance(1, 8) ? pte::kD : 0));
  s.invalidate(gva);
  s.touch(gva);
  s.touch(gva + s.rng().below(4) * kPage);
}

// A large page becomes a table and back, over the same or another frame, also behind the
// hypervisor's back.
void switch_size(Sketch& s) {
  const std::uint64_t gva = s.pool_gva() & ~(2 * kMib - 1);
  const unsigned level = s.rng().chance(1, 6) ? 3 : 2;
  const std::uint64_t frame = s.rng().pick(kLargeFrames);
  s.map(gva);
  const Survey::Walk small = s.walk(gva);
  const std::uint64_t table = small.last().level == 1 ? small.last().table : s.table_frame();
  s.map_large(gva, frame, level);
  s.touch(gva);
  s.touch(gva + s.rng().below(512) * kPage);
  const Survey::Entry e = s.walk(gva).last();
  const std::uint64_t as_table = (s.rng().chance(1, 4) ? frame : table) | kLinkBits;
  const bool hidden = s.rng().flip();
  if (hidden) {
    s.say(phrase::write(e.gpa, as_table, e.bytes, Writer::kHost));
  } else {
    s.deliver(e.gpa, as_table);
  }
  if (s.rng().flip())
    s.say(phrase::write(table + s.rng().below(3) * e.bytes, s.frame() | kLinkBits, e.bytes,
                        Writer::kGuest));
  s.invalidate(gva);
  s.touch(gva);
  s.touch(gva + s.rng().below(3) * kPage);
  if (s.rng().chance(1, 3)) return;
  s.deliver(e.gpa, s.rng().flip() ? e.value : (e.value ^ (2 * kMib)));
  s.invalidate(gva);
  s.touch(gva);
  s.touch(gva + s.rng().below(512) * kPage);
}

std::uint64_t any_cr4(Sketch& s) {
  const Machine& m = s.machine();
  std::uint64_t v = s.registers().cr4;
  if (!s.long_mode() && s.rng().chance(1, 4)) v ^= cr4::kPse;
  static constexpr struct {
    std::uint32_t needs;
    std::uint64_t mask;
  } kToggles[] = {{feature::kPge, cr4::kPge},
                  {feature::kPcid, cr4::kPcide},
                  {feature::kSmep, cr4::kSmep},
                  {feature::kSmap, cr4::kSmap},
                  {feature::kPku, cr4::kPke}};
  for (unsigned n = 1 + s.rng().below(2); n > 0; --n) {
    const auto& t = s.rng().pick(kToggles);
    if (m.has(t.needs) || s.rng().chance(1, 16)) v ^= t.mask;
  }
  return v;
}

void toggle_control(Sketch& s) {
  const Registers& r = s.registers();
  switch (s.rng().below(8)) {
    case 0:
    case 1:
      return s.say(phrase::mov(Reg::kCr0, r.cr0 ^ cr0::kWp));
    case 2:
    case 3:
    case 4:
      return s.say(phrase::mov(Reg::kCr4, any_cr4(s)));
    case 5:
      return s.say(phrase::mov(Reg::kEfer, r.efer ^ efer::kNxe));
    case 6:
      return s.say(phrase::mov(Reg::kCpl, r.cpl ? 0 : 3));
    default:
      if (s.rng().flip()) return s.say(phrase::mov(Reg::kAc, r.ac ? 0 : 1));
      return s.say(phrase::mov(Reg::kPkru, s.rng().below(256)));
  }
}

// The same address under other controls, with and without the fault in between.
void access_under_controls(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  if (s.rng().flip()) s.touch(gva);
  toggle_control(s);
  s.touch(gva);
  if (s.rng().flip()) s.touch(gva);
  toggle_control(s);
  s.touch(gva);
}

// CR0.WP=0: a supervisor write to a read-only page, which shadow paging has to fake; then who else
// may use the entry.
void write_through_wp(Sketch& s) {
  const std::uint64_t gva = s.pool_gva();
  Op map = phrase::map(gva, s.rng().chance(1, 3) ? s.rng().pick(kLargeFrames) : s.frame(),
                       s.rng().chance(1, 3) ? 2 : 1);
  map.pte = pte::kP | pte::kU | (s.rng().flip() ? pte::kA : 0);
  s.say(map);
  const std::uint64_t cr0 = s.registers().cr0;
  if (s.rng().flip()) s.touch(gva);
  s.say(phrase::mov(Reg::kCr0, cr0 & ~cr0::kWp));
  if (s.rng().flip() && s.machine().has(feature::kSmep)) {
    s.say(phrase::mov(Reg::kCr4, s.registers().cr4 ^ cr4::kSmep));
  }
  s.say(phrase::access_at(AccessKind::kWrite, gva, 8, 0));
  s.touch(gva);
  if (s.rng().flip()) s.say(phrase::access_at(AccessKind::kFetch, gva, 8, 0));
  s.say(phrase::access_at(s.rng().flip() ? AccessKind::kWrite : AccessKind::kRead, gva, 8, 3));
  if (s.rng().flip()) s.say(phrase::mov(Reg::kCr0, cr0 | cr0::kWp));
  s.touch(gva);
}

void ping_pong(Sketch& s) {
  const bool pcide = (s.registers().cr4 & cr4::kPcide) != 0;
  const std::uint64_t gva = s.pool_gva();
  const unsigned roots = 2 + s.rng().below(4);
  for (unsigned i = 0; i < roots; ++i) {
    s.say(phrase::mov(Reg::kCr3, kRoots[i] | (pcide ? s.rng().pick(kPcids) : 0)));
    if (s.rng().chance(2, 3)) s.map(gva);
    s.touch(gva);
  }
  for (unsigned i = 0; i < 1 + s.rng().below(3); ++i) {
    const Survey::Entry e = s.entry_of(gva);
    s.deliver(e.gpa, s.changed(e));
    s.say(phrase::mov(
        Reg::kCr3, kRoots[s.rng().below(roots)] |
                       (pcide ? s.rng().pick(kPcids) | (s.rng().flip() ? cr3::kNoFlush : 0) : 0)));
    s.touch(gva);
  }
}

// Address spaces tagged by PCID, of the same tables or of others: global and not, no-flush
// switches, INVPCID of each type.
void tagged_spaces(Sketch& s) {
  if (!s.machine().has(feature::kPcid)) return ping_pong(s);
  const std::uint64_t root = s.root();
  if (!(s.registers().cr4 & cr4::kPcide)) {
    if (s.registers().cr3 & cr3::kPcidMask) s.say(phrase::mov(Reg::kCr3, root));
    s.say(
        phrase::mov(Reg::kCr4, s.registers().cr4 | cr4::kPcide | (s.rng().flip() ? cr4::kPge : 0)));
  }
  const std::uint64_t gva = s.mapped_gva();
  const Survey::Entry e = s.walk(gva).last();
  if (s.rng().flip()) s.deliver(e.gpa, e.value ^ pte::kG);
  s.warm(gva);
  const std::uint64_t a = s.rng().pick(kPcids), b = s.rng().pick(kPcids);
  s.say(phrase::mov(Reg::kCr3, root | a | (s.rng().flip() ? cr3::kNoFlush : 0)));
  s.warm(gva);
  s.deliver_native(e.gpa, s.changed(e));
  if (s.rng().flip()) s.invalidate(gva);
  const std::uint64_t second = s.rng().flip() ? root : s.other_root();
  s.say(phrase::mov(Reg::kCr3, second | b | (s.rng().chance(3, 4) ? cr3::kNoFlush : 0)));
  s.touch(gva);
  s.say(phrase::invpcid(s.rng().below(4), s.rng().flip() ? a : b, gva));
  s.touch(gva);
  s.say(phrase::mov(Reg::kCr3, root | a | cr3::kNoFlush));
  s.touch(gva);
}

void split_write(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  const Survey::Entry e = s.entry_of(gva);
  s.deliver_split(e.gpa, s.changed(e));
  if (s.rng().flip()) s.invalidate(gva);
  s.touch(gva);
}

// A reserved bit beside an entry that is used first (prefetch), or in the entry itself.
void reserved(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  if (s.rng().flip()) s.warm(gva);
  Survey::Entry e = s.entry_of(gva);
  std::uint64_t at = gva;
  if (s.rng().chance(1, 3)) {
    at = gva ^ bit(e.shift);
    e.gpa ^= e.bytes;
  }
  s.deliver(e.gpa, (e.value | pte::kA) | s.reserved_bit(e));
  if (s.rng().flip()) s.invalidate(at);
  if (s.rng().flip()) s.touch(gva);
  s.touch(at);
  if (s.rng().flip()) s.say(phrase::access_at(AccessKind::kFetch, at, 8, 0));
  if (s.rng().flip()) {
    s.deliver(e.gpa, e.value | pte::kA);
    s.touch(at);
  }
}

// One vCPU edits, another one uses.
void across_vcpus(Sketch& s) {
  const unsigned first = s.vcpu(), second = s.other_vcpu();
  const std::uint64_t gva = s.mapped_gva();
  const std::uint64_t cr3 = s.registers().cr3;
  const Survey::Entry e = s.entry_of(gva);
  s.warm(gva);
  s.on_vcpu(second, [&] {
    if (s.registers().cr3 != cr3) s.say(phrase::mov(Reg::kCr3, cr3));
    s.warm(gva);
  });
  s.deliver(e.gpa, s.changed(e));
  if (s.rng().flip()) s.invalidate(gva);
  if (s.rng().flip()) s.touch(gva);
  s.use_vcpu(second);
  if (s.rng().flip()) s.invalidate(gva);
  s.touch(gva);
  if (s.rng().chance(3, 4)) s.use_vcpu(first);
}

// Accesses that end on the next page, whose rights differ.
void cross_pages(Sketch& s) {
  const std::uint64_t gva = s.pool_gva() & kTableMask;
  s.map(gva);
  s.map(gva + kPage);
  const AccessKind kind = s.rng().flip() ? AccessKind::kWrite : AccessKind::kRead;
  for (unsigned i = 0; i < 1 + s.rng().below(3); ++i) {
    s.say(phrase::access(kind, gva + 0xff8 + 1 + s.rng().below(7), 8));
    if (s.rng().flip()) s.say(phrase::access(AccessKind::kRmw, gva + 0xffe, 4));
  }
  if (s.rng().flip()) {
    const Survey::Entry e = s.walk(gva + kPage).last();
    s.deliver(e.gpa, s.changed(e));
    s.say(phrase::access(kind, gva + 0xffc, 8));
  }
}

// A table page is itself mapped and used as data, then freed from its role and used again.
void retire_table(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  if (w.count < 2) return s.touch(gva);
  const Survey::Entry link = w.entry[w.count - 2];
  s.deliver(link.gpa, s.rng().flip() ? 0 : (s.table_frame() | kLinkBits));
  const unsigned stores = 1 + s.rng().below(5);  // enough for flooding detection
  for (unsigned i = 0; i < stores; ++i) {
    s.deliver_native(w.last().table + w.last().bytes * s.rng().below(4), s.frame() | kLinkBits);
  }
  if (s.rng().flip()) s.deliver(link.gpa, link.value);
  s.invalidate(gva);
  s.touch(gva);
  s.touch(gva ^ kPage);
}

// Through the modes as a guest goes, or at once by the host; then what the old tables, the new ones
// and those of the next visit say.
void change_mode(Sketch& s) {
  const Mode from = s.mode();
  const std::uint64_t before = s.mapped_gva();
  s.warm(before);
  Machine m = s.machine();
  m.mode = static_cast<Mode>(s.rng().below(5));
  const Registers to = initial_registers(m), old = s.registers();
  const std::uint64_t cr3 =
      s.rng().flip() ? s.root()
                     : s.rng().pick(kRoots) + (m.mode == Mode::kPae ? s.rng().below(4) * 32 : 0);
  if (s.rng().chance(1, 4)) {
    s.say(phrase::sregs(to.cr0, cr3, to.cr4, to.efer));
  } else {
    if (old.cr4 & cr4::kPcide) s.say(phrase::mov(Reg::kCr4, old.cr4 & ~cr4::kPcide));
    if (from != Mode::kNone) s.say(phrase::mov(Reg::kCr0, old.cr0 & ~cr0::kPg));
    if (s.rng().chance(1, 4)) s.touch(before);
    s.say(phrase::mov(Reg::kCr4, to.cr4));
    s.say(phrase::mov(Reg::kEfer, to.efer & ~efer::kLma));
    if (s.rng().chance(3, 4)) s.say(phrase::mov(Reg::kCr3, cr3));
    s.say(phrase::mov(Reg::kCr0, to.cr0));
  }
  s.touch(before);
  const std::uint64_t now = s.mapped_gva();
  s.touch(now);
  if (s.rng().flip()) {
    const Survey::Entry e = s.entry_of(now);
    s.deliver(e.gpa, s.changed(e));
    s.touch(now);
  }
  if (s.rng().flip()) return;
  s.say(phrase::sregs(old.cr0, old.cr3, old.cr4, old.efer));
  s.touch(before);
}

// Nothing but many accesses: A and D, prefetch, roots built at leisure.
void look_around(Sketch& s) {
  for (unsigned i = 0; i < 2 + s.rng().below(4); ++i) {
    s.touch(s.rng().chance(3, 4) ? s.mapped_gva() : s.pool_gva(), s.rng().chance(1, 4));
  }
}

constexpr Idiom kIdioms[] = {
    {"map-and-access", 6, map_and_access},
    {"rewrite-entry", 12, rewrite_entry},
    {"store-unseen", 10, store_unseen},
    {"alias-table", 5, alias_table},
    {"share-between-roots", 4, share_between_roots},
    {"self-map", 2, self_map},
    {"cycle", 2, cycle},
    {"switch-size", 5, switch_size},
    {"toggle-control", 3, toggle_control},
    {"access-under-controls", 5, access_under_controls},
    {"write-through-wp", 3, write_through_wp},
    {"ping-pong", 3, ping_pong},
    {"tagged-spaces", 3, tagged_spaces},
    {"split-write", 3, split_write},
    {"reserved", 4, reserved},
    {"across-vcpus", 3, across_vcpus},
    {"cross-pages", 2, cross_pages},
    {"retire-table", 3, retire_table},
    {"change-mode", 2, change_mode},
    {"look-around", 4, look_around},
};

}  // namespace

std::span<const Idiom> guest_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
