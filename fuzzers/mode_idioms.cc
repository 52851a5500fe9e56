// What a paging mode has of its own: PDPTEs that are registers, entries of four bytes in quadrants,
// 4M pages with high frames, edges of the address space; and one table that two modes use. Each
// says something in every mode, and now and then goes to the one where it says most.

#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"

namespace twinwalk::fuzz {
namespace {

// A register write that loads PAE's PDPTEs where there are any.
void write_that_loads_pdptes(Sketch& s) {
  const Registers r = s.registers();
  switch (s.rng().below(8)) {
    case 0:
    case 1:
      return s.say(phrase::mov(Reg::kCr3, r.cr3));
    case 2:
      return s.say(phrase::mov(
          Reg::kCr0, r.cr0 & cr0::kCd ? r.cr0 & ~(cr0::kCd | cr0::kNw) : r.cr0 | cr0::kCd));
    case 3:
      return s.say(phrase::mov(Reg::kCr0,
                               r.cr0 & cr0::kNw ? r.cr0 & ~cr0::kNw : r.cr0 | cr0::kCd | cr0::kNw));
    case 4:
      s.say(phrase::mov(Reg::kCr0, r.cr0 & ~cr0::kPg));
      if (s.rng().flip()) s.touch(s.frame());
      return s.say(phrase::mov(Reg::kCr0, r.cr0 | cr0::kPg));
    case 5:
      return s.say(phrase::mov(Reg::kCr4, r.cr4 ^ (s.rng().flip() ? cr4::kPge : cr4::kPse)));
    case 6:
      return s.say(phrase::mov(Reg::kCr4, r.cr4 ^ cr4::kSmep));
    default:
      if (s.long_mode()) return s.say(phrase::mov(Reg::kCr3, r.cr3));
      s.say(phrase::mov(Reg::kCr4, r.cr4 ^ cr4::kPae));
      if (s.rng().flip()) s.touch(s.pool_gva());
      return s.say(phrase::mov(Reg::kCr4, r.cr4));
  }
}

// One that does not, though it looks like one.
void write_that_loads_none(Sketch& s) {
  const Registers r = s.registers();
  switch (s.rng().below(6)) {
    case 0:
      return s.say(phrase::mov(Reg::kCr0, r.cr0 ^ cr0::kWp));
    case 1:
      return s.say(phrase::mov(Reg::kCr4, r.cr4 ^ cr4::kSmap));
    case 2:
      return s.say(phrase::mov(Reg::kCr4, r.cr4 ^ cr4::kPke));
    case 3:
      return s.say(phrase::mov(Reg::kEfer, r.efer ^ efer::kNxe));
    case 4:
      return s.say(phrase::invpcid(2, 0, 0));
    default:
      return s.say(phrase::invlpg(s.mapped_gva()));
  }
}

// An address that is in use, preferably in PAE mode, and the uppermost entry of its walk.
struct UsedRootEntry {
  std::uint64_t gva;
  Survey::Entry entry;
};
UsedRootEntry used_root_entry(Sketch& s) {
  s.prefer(Mode::kPae);
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  return {gva, s.walk(gva).entry[0]};
}

// An uppermost entry is edited, used before anything loads it, and after.
void reload_root_entry(Sketch& s) {
  const auto [gva, e] = used_root_entry(s);
  s.deliver(e.gpa, s.changed(e));
  if (s.rng().flip()) s.touch(s.rng().flip() ? gva : gva ^ kPage);
  if (s.rng().chance(1, 3)) {
    write_that_loads_none(s);
    s.touch(gva ^ kPage);
  }
  write_that_loads_pdptes(s);
  s.touch(gva);
  s.touch(s.mapped_gva());
  if (s.rng().flip()) return;
  s.deliver(e.gpa, e.value);
  if (s.rng().flip()) s.touch(gva);
  write_that_loads_pdptes(s);
  s.touch(gva);
}

// Any of the four gets a bit that PDPTEs have not; then it is loaded, or only used.
void reserved_root_entry(Sketch& s) {
  const auto [gva, e] = used_root_entry(s);
  const std::uint64_t at = s.rng().flip() ? e.gpa : e.table + s.rng().below(4) * e.bytes;
  const std::uint64_t was = s.survey().entry_at(at, e.bytes);
  static constexpr unsigned kBits[] = {1, 2, 5, 6, 7, 8, 52, 62, 63};
  const unsigned width = s.machine().maxphyaddr;
  const std::uint64_t wrong = bit(s.rng().chance(1, 4) && width < 52 ? width : s.rng().pick(kBits));
  s.deliver(at, was | wrong | (s.rng().chance(3, 4) ? pte::kP : 0));
  write_that_loads_pdptes(s);
  s.touch(gva);
  if (s.rng().flip()) s.touch(s.mapped_gva());
  if (s.rng().chance(1, 4)) return;
  s.deliver(at, was);
  write_that_loads_pdptes(s);
  s.touch(gva);
}

// Two address spaces lie in one page, as PAE's arrays may.
void root_inside_page(Sketch& s) {
  const auto [gva, e] = used_root_entry(s);
  const std::uint64_t old = s.registers().cr3;
  const std::uint64_t other = (s.root() & ~std::uint64_t{0xfff}) + 32 * s.rng().below(8);
  const std::uint64_t at = other + (s.rng().flip() ? e.gpa & 31 : 8 * s.rng().below(4));
  s.deliver(at, s.rng().flip() ? e.value : s.changed(e));
  s.say(phrase::mov(Reg::kCr3, other | s.rng().below(32)));
  s.touch(gva);
  if (s.rng().flip()) s.map(s.pool_gva());
  if (s.rng().flip()) s.touch(s.mapped_gva());
  s.say(phrase::mov(Reg::kCr3, old));
  s.touch(gva);
}

// An entry is written in two halves, with accesses between: half-way it is neither value.
void entry_in_two_stores(Sketch& s) {
  s.prefer(Mode::kPae);
  const std::uint64_t gva = s.mapped_page();
  s.warm(gva);
  const Survey::Entry e = s.entry_of(gva);
  std::uint64_t value = s.changed(e);
  if (s.rng().flip()) value ^= s.rng().flip() ? pte::kXd : bit(32);
  const unsigned half = e.bytes / 2;
  const bool native = s.rng().flip(), high_first = s.rng().flip();
  for (unsigned i = 0; i < 2; ++i) {
    const bool high = high_first == (i == 0);
    const std::uint64_t at = e.gpa + (high ? half : 0);
    const std::uint64_t part = (high ? value >> (8 * half) : value) & (bit(8 * half) - 1);
    s.deliver_by(native, at, part, half);
    if (s.rng().flip()) s.invalidate(gva);
    s.touch(gva);
  }
  if (s.rng().flip()) s.invalidate(gva);
  s.touch(gva);
}

// One store changes parts of two neighbouring entries that are both in use.
void store_over_two_entries(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  const Survey::Entry e = s.entry_of(gva);
  const std::uint64_t next = gva + bit(e.shift);
  if (e.level == 1 && s.rng().chance(3, 4)) s.map(next);
  s.warm(gva);
  s.warm(next);
  const std::uint64_t last = e.table + kPage - 2 * e.bytes;
  const std::uint64_t first = e.gpa > last && last >= e.table ? last : e.gpa;
  Survey::Entry second = e;
  second.value = s.survey().entry_at(first + e.bytes, e.bytes);
  const std::uint64_t a = s.changed(e), b = s.changed(second);
  const unsigned into = 1 + s.rng().below(e.bytes - 1);
  std::uint64_t value;
  unsigned size = 8;
  if (e.bytes == 8) {
    value = a >> (8 * into) | b << (64 - 8 * into);
  } else if (s.rng().flip()) {
    value = (a & 0xffff'ffff) | b << 32;
  } else {
    value = ((a & 0xffff'ffff) | b << 32) >> (8 * into) & 0xffff'ffff;
    size = 4;
  }
  const std::uint64_t at = first + (size == 8 && e.bytes == 4 ? 0 : into);
  s.deliver_by(s.rng().flip(), at, value, size);
  s.touch(s.rng().flip() ? gva : next);
  s.invalidate(s.rng().flip() ? gva : next);
  s.touch(gva);
  s.touch(next);
}

// Two halves of a table of 4-byte entries, or quarters of a directory, have shadows of their own:
// edits go to one while the other is in use, or is used later.
void quadrants(Sketch& s) {
  s.prefer(Mode::k32Bit);
  static constexpr std::uint64_t kAway[] = {2 * kMib, 2 * kMib, bit(30), bit(31)};
  const std::uint64_t gva = s.mapped_page(), other = gva ^ s.rng().pick(kAway);
  if (s.rng().chance(3, 4)) s.map(other);
  s.warm(gva);
  if (s.rng().flip()) s.warm(other);
  const unsigned edits = 1 + s.rng().below(3);
  for (unsigned i = 0; i < edits; ++i) {
    const Survey::Entry e = s.entry_of(s.rng().chance(2, 3) ? other : gva);
    if (s.rng().flip()) {
      s.deliver_native(e.gpa, s.changed(e));
    } else {
      s.deliver(e.gpa, s.changed(e));
    }
    if (s.rng().flip()) s.touch(s.rng().flip() ? gva : other);
  }
  s.invalidate(s.rng().flip() ? gva : other);
  s.touch(other);
  s.touch(gva);
  s.touch(other);
}

// Large pages whose frame lies above 4 GiB, which 4-byte entries reach by PSE-36: a device, then
// perhaps memory; and the bits that are reserved or the next frame.
void high_large_page(Sketch& s) {
  s.prefer(Mode::k32Bit);
  const std::uint64_t top = bit(s.machine().maxphyaddr - 1);
  const std::uint64_t frames[] = {0x1'0000'0000, 0x8'0000'0000, top,
                                  top | 0x40'0000 * s.rng().below(4)};
  const std::uint64_t gva = s.pool_gva() & ~(4 * kMib - 1), frame = s.rng().pick(frames);
  static constexpr std::uint64_t kInside[] = {0, 2 * kMib - kPage, 2 * kMib, 4 * kMib - kPage};
  const std::uint64_t id = 1 + s.rng().below(3);
  s.map_large(gva, frame);
  const bool late = s.rng().flip();
  if (late) s.touch(gva + s.rng().pick(kInside));
  s.say(phrase::slot_add(id, frame & ~(4 * kMib - 1), s.rng().flip() ? 1024 : 512,
                         s.rng().pick(kSlotHvas), s.rng().below(4)));
  s.touch(gva + s.rng().pick(kInside));
  s.touch(gva + s.rng().pick(kInside));
  const Survey::Entry e = s.entry_of(gva);
  s.deliver(e.gpa, (e.value | pte::kA) ^ bit(13 + s.rng().below(9)));
  s.invalidate(gva + s.rng().pick(kInside));
  s.touch(gva + s.rng().pick(kInside));
  if (s.rng().flip()) s.say(phrase::slot_delete(id));
  s.touch(gva + s.rng().pick(kInside));
}

// PS in an entry and CR4.PSE, one after the other: a table, or a page.
void page_size_bit(Sketch& s) {
  s.prefer(Mode::k32Bit);
  const std::uint64_t gva = s.mapped_page();
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  const Survey::Entry e = w.entry[w.count > 1 ? w.count - 2 : 0];
  for (unsigned i = 0; i < 2 + s.rng().below(2); ++i) {
    if (s.rng().flip()) {
      s.deliver(e.gpa, (s.survey().entry_at(e.gpa, e.bytes) ^ pte::kPs) | pte::kA);
      if (s.rng().flip()) s.invalidate(gva);
    } else {
      s.say(phrase::mov(Reg::kCr4, s.registers().cr4 ^ cr4::kPse));
    }
    s.touch(gva);
    if (s.rng().flip()) s.touch(gva ^ (2 * kMib));
  }
}

// The last address that the mode has, and the first that it has not.
void edge_of_addresses(Sketch& s) {
  const std::uint64_t top = s.mode() == Mode::k5Level ? bit(56) : bit(47);
  std::uint64_t last, beyond;
  if (s.long_mode()) {
    const bool lower = s.rng().flip();
    last = lower ? top - kPage : ~top + 1;
    beyond = lower ? top : ~top + 1 - kPage;
  } else {
    last = 0xffff'f000;
    beyond = 0x1'0000'0000;
  }
  s.map(last);
  if (!s.long_mode() && s.rng().flip()) s.map(0);
  s.touch(last);
  if (s.rng().flip()) s.invalidate(beyond);
  s.touch(beyond);
  for (unsigned i = 0; i < 1 + s.rng().below(2); ++i) {
    const AccessKind kind = s.rng().flip() ? AccessKind::kWrite : AccessKind::kRead;
    s.say(phrase::access(kind, (last < beyond ? last : beyond) + 0xff8 + s.rng().below(8)));
  }
  const Survey::Entry e = s.entry_of(last);
  s.deliver(e.gpa, s.changed(e));
  if (s.rng().flip()) s.say(phrase::invlpg(s.rng().flip() ? last : beyond));
  s.touch(last, true);
}

// A tree of another mode over tables that this one uses: edited here and there, used in both, with
// or without a flush.
void tables_of_two_modes(Sketch& s) {
  const std::uint64_t gva = s.rng().pick(kPageSteps) + (s.rng().flip() ? 2 * kMib : 0);
  s.say(phrase::map(gva, s.frame(), s.rng().chance(1, 4) ? 2 : 1));
  const Survey::Walk w = s.walk(gva);
  const Registers old = s.registers();
  const std::uint64_t shared =
      w.entry[w.count > 1 && s.rng().chance(3, 4) ? w.count - 2 : w.count - 1].table;
  s.warm(gva);
  // From the bottom up: kRoots[1] as a page directory pointer table, PML4 and so on.
  s.say(phrase::write(kRoots[1], shared | pte::kP, 8, Writer::kGuest));
  s.say(phrase::write(kRoots[2], shared | kLinkBits, 8, Writer::kGuest));
  s.say(phrase::write(kRoots[3], kRoots[2] | kLinkBits, 8, Writer::kGuest));
  s.say(phrase::write(kRoots[4], kRoots[3] | kLinkBits, 8, Writer::kGuest));
  static constexpr struct {
    Mode mode;
    std::uint64_t root;
  } kTrees[] = {{Mode::k32Bit, kRoots[2]},
                {Mode::kPae, kRoots[1]},
                {Mode::k4Level, kRoots[3]},
                {Mode::k5Level, kRoots[4]}};
  const auto& tree = s.rng().pick(kTrees);
  Machine m = s.machine();
  m.mode = tree.mode;
  const Registers to = initial_registers(m);
  s.say(phrase::sregs(to.cr0, tree.root, to.cr4, to.efer));
  s.touch(gva);
  const Survey::Entry e = w.last();
  s.deliver_native(e.gpa, s.changed(e));
  if (s.rng().flip()) s.deliver_native(e.gpa, s.changed(e));
  s.touch(gva);
  s.say(phrase::sregs(old.cr0, old.cr3, old.cr4, old.efer));
  s.touch(gva);
  if (s.rng().flip()) return;
  s.deliver(e.gpa, s.changed(e));
  s.say(phrase::sregs(to.cr0, tree.root, to.cr4, to.efer));
  s.touch(gva);
}

// A second way to one page directory or table; in PAE mode that is a matter of the PDPTEs.
void directory_linked_twice(Sketch& s) {
  s.prefer(Mode::kPae);
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  if (w.count < 2) return s.touch(gva);
  const Survey::Entry top = w.entry[0];
  const std::uint64_t index = s.rng().below(4) * top.bytes;
  // As an upper table, or one level too high or too low.
  const std::uint64_t table = w.entry[1 + s.rng().below(w.count - 1)].table;
  s.deliver(top.table + index, Sketch::link_to(table, top));
  if (s.rng().chance(3, 4)) write_that_loads_pdptes(s);
  const std::uint64_t other = (gva & (bit(top.shift) - 1)) | ((index / top.bytes) << top.shift);
  s.touch(other);
  const Survey::Entry e = s.entry_of(gva);
  s.deliver_native(e.gpa, s.changed(e));
  if (s.rng().flip()) s.invalidate(s.rng().flip() ? gva : other);
  s.touch(other);
  s.touch(gva);
}

// Register writes that every processor refuses, in the state of now; nothing may have changed.
void refused_write(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  for (unsigned i = 0; i < 1 + s.rng().below(2); ++i) {
    const Registers r = s.registers();
    switch (s.rng().below(10)) {
      case 0:
        s.say(phrase::mov(Reg::kCr4, r.cr4 & ~cr4::kPae));
        break;
      case 1:
        s.say(phrase::mov(Reg::kCr4, r.cr4 ^ cr4::kLa57));
        break;
      case 2:
        s.say(phrase::mov(Reg::kCr4, r.cr4 | cr4::kPcide));
        break;
      case 3:
        s.say(phrase::mov(Reg::kCr0, (r.cr0 | cr0::kPg) & ~cr0::kPe));
        break;
      case 4:
        s.say(phrase::mov(Reg::kCr0, (r.cr0 | cr0::kNw) & ~cr0::kCd));
        break;
      case 5:
        s.say(phrase::mov(Reg::kEfer, r.efer ^ efer::kLme));
        break;
      case 6:
        s.say(phrase::mov(Reg::kEfer, r.efer | bit(13 + s.rng().below(8))));
        break;
      case 7:
        s.say(phrase::mov(Reg::kCr3, r.cr3 | bit(s.machine().maxphyaddr)));
        break;
      case 8:
        s.say(phrase::mov(Reg::kCr4, r.cr4 | bit(23 + s.rng().below(8))));
        break;
      default:
        s.say(phrase::sregs(r.cr0, r.cr3, r.cr4,
                            r.efer ^ (s.rng().flip() ? efer::kLma : efer::kLme)));
        break;
    }
    s.touch(gva);
  }
  const Survey::Entry e = s.entry_of(gva);
  s.deliver(e.gpa, s.changed(e));
  s.invalidate(gva);
  s.touch(gva);
}

constexpr Idiom kIdioms[] = {
    {"reload-root-entry", 3, reload_root_entry},
    {"reserved-root-entry", 2, reserved_root_entry},
    {"root-inside-page", 1, root_inside_page},
    {"entry-in-two-stores", 2, entry_in_two_stores},
    {"store-over-two-entries", 2, store_over_two_entries},
    {"quadrants", 3, quadrants},
    {"high-large-page", 2, high_large_page},
    {"page-size-bit", 2, page_size_bit},
    {"edge-of-addresses", 1, edge_of_addresses},
    {"tables-of-two-modes", 3, tables_of_two_modes},
    {"directory-linked-twice", 2, directory_linked_twice},
    {"refused-write", 1, refused_write},
};

}  // namespace

std::span<const Idiom> mode_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
