// Edits that the hypervisor is not told of, or only by a later flush: by the host's own process, by
// the guest in tables that went unsync, in tables that lie in a read-only slot; and what may change
// around an entry while a former value of it is still in use.

#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

std::uint64_t with_frame(std::uint64_t entry, std::uint64_t frame) {
  return (entry & ~pte::kAddressMask) | (frame & pte::kAddressMask);
}

// The host looks at a frame by its reverse map, in one of the ways there are.
void look_up_frame(Sketch& s, std::uint64_t gpa, std::uint64_t pages) {
  const std::uint64_t hva = kHvaBase + gpa;
  switch (s.rng().below(6)) {
    case 0:
      s.say(phrase::slot_delete(0));
      return s.say(phrase::slot_add(0, 0, s.machine().memory_bytes() / kPage, kHvaBase, 0));
    case 1:
      s.say(phrase::slot_flags(0, slot_flag::kLogDirty));
      return s.say(phrase::slot_flags(0, 0));
    case 2:
      return s.say(phrase::protect(hva, pages, false));
    case 3:
      return s.say(phrase::host_range(Verb::kAge, hva, pages));
    default:
      return s.say(
          phrase::host_range(s.rng().flip() ? Verb::kRemap : Verb::kInvalidate, hva, pages));
  }
}

// The host's process rewrites a large entry that is in use: into a table of the same frame, another
// large frame, small pages, a device. Then another part of the range is used, and the host asks for
// the old frame.
void large_entry_by_host(Sketch& s) {
  const std::uint64_t large = s.mode() == Mode::k32Bit ? 4 * kMib : 2 * kMib;
  const std::uint64_t gva = s.pool_gva() & ~(large - 1);
  std::uint64_t frame = s.rng().pick(kLargeFrames) & ~(large - 1);
  if (frame == 0 && s.rng().chance(2, 3)) frame = 4 * kMib;
  const std::uint64_t part = gva + s.rng().below(3) * kPage;
  const std::uint64_t table = frame != 0 && s.rng().chance(2, 3) ? frame : s.table_frame();
  s.map_large(gva, frame);
  s.touch(gva);
  if (s.rng().flip()) s.touch(part);
  const Survey::Entry e = s.walk(gva).last();
  for (unsigned i = 0; i < 2; ++i)
    s.say(phrase::write(table + s.rng().below(3) * e.bytes, s.frame() | kLinkBits | pte::kD,
                        e.bytes, Writer::kHost));
  std::uint64_t to = table | kLinkBits;
  if (s.rng().flip())
    to = with_frame(e.value, s.rng().flip() ? s.rng().pick(kLargeFrames) & ~(large - 1)
                                            : s.rng().pick(kDevices) & ~(large - 1)) |
         pte::kA | pte::kD;
  s.say(phrase::write(e.gpa, to, e.bytes, Writer::kHost));
  s.touch(part);
  s.touch(gva + s.rng().below(3) * kPage);
  if (s.rng().chance(1, 3)) s.invalidate(gva);
  look_up_frame(s, frame, s.rng().flip() ? large / kPage : 1);
  s.touch(part);
  s.touch(gva);
}

// A page in use becomes another page or a device by the host's hand; the next fault replaces it.
void page_by_host(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  const Survey::Entry e = s.rng().chance(3, 4) ? w.last() : s.entry_of(gva);
  const std::uint64_t to = s.rng().chance(2, 3) ? s.rng().pick(kDevices) : s.frame();
  s.say(phrase::write(e.gpa, with_frame(e.value, to) | pte::kA, e.bytes, Writer::kHost));
  // The kind of access decides whether the old entry still serves.
  s.say(phrase::access(s.rng().flip() ? AccessKind::kWrite : AccessKind::kFetch, gva));
  s.touch(gva);
  if (w.complete && w.gpa < s.machine().memory_bytes())
    look_up_frame(s, w.gpa & ~std::uint64_t{0xfff}, 1);
  s.touch(gva);
  s.invalidate(gva);
  s.touch(gva);
}

// Tables in a read-only slot, with A and D set in advance or not.
void tables_read_only(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const Survey::Walk w = s.walk(gva);
  const std::uint64_t id = 1 + s.rng().below(3), at = 0x8000'0000;
  if (s.rng().chance(3, 4)) {
    for (unsigned i = 0; i < w.count; ++i) {
      const Survey::Entry& e = w.entry[i];
      if (e.pdpte_of_pae) continue;
      const bool leaf = i + 1 == w.count;
      s.say(phrase::write(e.gpa, e.value | pte::kA | (leaf && s.rng().flip() ? pte::kD : 0),
                          e.bytes, Writer::kGuest));
    }
  }
  s.say(phrase::slot_add(id, at, 64, kHvaBase + kTablePool, slot_flag::kReadOnly));
  const std::uint64_t old = s.registers().cr3;
  if (s.root() >= kTablePool && s.root() < kTablePool + 64 * kPage && s.rng().flip()) {
    s.say(phrase::mov(Reg::kCr3, at + (s.root() - kTablePool)));
  } else if (w.count > 1) {
    const Survey::Entry& link = w.entry[s.rng().below(w.count - 1)];
    const std::uint64_t table = link.value & pte::kAddressMask;
    if (table >= kTablePool) s.deliver(link.gpa, with_frame(link.value, at + (table - kTablePool)));
  }
  s.touch(gva);
  s.touch(gva);
  s.say(phrase::mov(Reg::kCr3, old));
  const Survey::Entry e = w.last();
  s.deliver(e.gpa, s.changed(e));
  if (s.rng().flip()) s.invalidate(gva);
  s.touch(gva);
  s.say(s.rng().flip() ? phrase::slot_delete(id) : phrase::slot_flags(id, 0));
  s.touch(gva);
}

// A table is edited without a word, then linked under a second parent that was not there before: no
// flush is due, and none may be needed.
void link_unsync_table(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  // A second page of the table, by which the new link is made while the edited entry is left alone.
  const bool link_by_neighbour = s.rng().chance(3, 4);
  if (link_by_neighbour) s.say(phrase::map(gva ^ kPage, s.frame(), 1));
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  if (w.count < 2) return s.touch(gva);
  const Survey::Entry e = w.last();
  s.deliver_native(e.gpa, e.value | pte::kA);
  s.deliver_native(e.gpa, s.changed(e));
  const unsigned parent = s.rng().chance(2, 3) ? w.count - 2 : s.rng().below(w.count - 1);
  const Survey::Entry& link = w.entry[parent];
  const std::uint64_t other = gva ^ bit(link.shift + s.rng().below(2));
  const std::uint64_t at = link.table + link.offset_of(other);
  if (s.rng().flip()) {
    s.say(phrase::write(at, 0, link.bytes, Writer::kGuest));
    s.touch(other);
  }
  s.deliver(at, s.rng().chance(3, 4) ? link.value : s.changed(link));
  s.load_if_pdpte(link);
  if (link_by_neighbour) s.warm(other ^ kPage);
  s.touch(other);
  s.touch(gva);
  if (s.rng().flip()) s.deliver_native(e.gpa, s.changed(e));
  s.touch(other);
  s.invalidate(s.rng().flip() ? gva : other);
  s.touch(gva);
  s.touch(other);
}

// A data page that some processor can still write becomes a page table: its own mapping is narrowed
// or taken away, maybe with the invalidation on one processor only, and an upper entry is made to
// lead to it. Then it is written by the former way, and looked at as a table.
void data_page_becomes_table(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  const unsigned there = s.rng().chance(3, 4) ? s.other_vcpu() : s.vcpu();
  const Survey::Walk w = s.walk(gva);
  if (w.count < 2 || !w.complete) return s.touch(gva);
  const Survey::Entry leaf = w.last();
  const Survey::Entry& upper = w.entry[w.count - 2];
  const std::uint64_t page = leaf.value & pte::kAddressMask;
  const std::uint64_t other = gva ^ (std::uint64_t{1 + s.rng().below(3)} << upper.shift);
  const Survey::Entry link = s.walk(other).entry[w.count - 2];
  const std::uint64_t in_table = leaf.gpa & 0xfff;  // `other` has the same index at the last level
  const auto store_there = [&](std::uint64_t value) {
    s.on_vcpu(there, [&] { s.say(phrase::store(gva + in_table, value, leaf.bytes)); });
  };
  store_there(s.frame() | kLinkBits | pte::kD);
  const std::uint64_t narrowed = (leaf.value & ~std::uint64_t{pte::kW}) | pte::kA | pte::kD;
  s.deliver_native(leaf.gpa, s.rng().chance(2, 3) ? narrowed : s.changed(leaf));
  s.invalidate_here(gva);
  s.deliver(link.gpa, page | kLinkBits);
  s.load_if_pdpte(link);
  s.touch(other);
  store_there(s.rng().flip() ? 0 : s.frame() | kLinkBits);
  if (s.rng().chance(1, 4)) s.touch(other);
  s.invalidate_here(other);
  s.touch(other);
}

// A page table that the guest edits without a word begins to serve as an upper table of another
// address, or as the root: each of its former entries is one of many levels then.
void table_moves_up(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  if (w.count < 2) return s.touch(gva);
  const Survey::Entry e = w.last();
  const bool as_root = w.count == 2 || (!w.entry[0].pdpte_of_pae && s.rng().chance(1, 4));
  const unsigned parent = as_root ? 0 : s.rng().below(w.count - 2);
  // It leads to itself from there down to where it was before.
  for (unsigned i = as_root ? 0 : parent + 1; i + 1 < w.count; ++i)
    s.deliver_native(e.table + w.entry[i].offset_of(gva),
                     (e.table & pte::kAddressMask) | kLinkBits);
  if (s.rng().flip()) s.deliver_native(e.gpa, s.changed(e));
  const std::uint64_t old = s.registers().cr3;
  std::uint64_t other = gva;
  if (as_root) {
    s.say(phrase::mov(Reg::kCr3, e.table));
  } else {
    const Survey::Entry& link = w.entry[parent];
    other = gva ^ bit(link.shift + s.rng().below(2));
    s.deliver(link.table + link.offset_of(other), Sketch::link_to(e.table, link));
    // CR0.CD loads PDPTEs and flushes nothing.
    if (link.pdpte_of_pae && s.rng().flip()) {
      s.say(phrase::mov(Reg::kCr0, (s.registers().cr0 ^ cr0::kCd) & ~cr0::kNw));
    } else if (link.pdpte_of_pae) {
      s.say(phrase::mov(Reg::kCr3, old));
    }
  }
  s.touch(other);
  s.touch(gva);
  const std::uint64_t value = s.changed(e);
  s.deliver_by(!as_root && !s.rng().flip(), e.gpa, value, e.bytes);
  if (s.rng().flip()) s.touch(other);
  if (as_root) s.say(phrase::mov(Reg::kCr3, old));
  s.invalidate(s.rng().flip() ? gva : other);
  s.touch(gva);
  s.touch(other);
}

// Native stores to an upper table: each one must be seen, also after many, and by an instruction
// that reads first.
void flood_upper_table(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  const Survey::Walk w = s.walk(gva);
  const Survey::Entry e = w.entry[w.count > 1 ? s.rng().below(w.count - 1) : 0];
  s.need_direct_map(e.gpa & (kDirectMapSize - 1));
  const std::uint64_t through = direct_map(s.mode()) + e.gpa;
  for (unsigned i = 0; i < 1 + s.rng().below(6); ++i) {
    switch (s.rng().below(4)) {
      case 0:
        s.say(phrase::access(AccessKind::kRmw, through, e.bytes));
        break;
      case 1:
        s.say(phrase::write(e.table + s.rng().below(4) * e.bytes, s.table_frame() | kLinkBits,
                            e.bytes, Writer::kGuest));
        break;
      default:
        s.deliver_native(e.table + s.rng().below(4) * e.bytes, s.changed(e));
        break;
    }
  }
  s.deliver_native(e.gpa, s.rng().flip() ? e.value : s.changed(e));
  s.load_if_pdpte(e);
  if (s.rng().flip()) s.invalidate(gva);
  s.touch(gva);
  s.touch(s.mapped_gva());
}

// One of the controls that decide what an entry allows.
void toggle_right(Sketch& s) {
  const Registers r = s.registers();
  switch (s.rng().below(6)) {
    case 0:
    case 1:
      return s.say(phrase::mov(Reg::kCr0, r.cr0 ^ cr0::kWp));
    case 2:
      return s.say(phrase::mov(Reg::kCr4, r.cr4 ^ cr4::kSmep));
    case 3:
      return s.say(phrase::mov(Reg::kCr4, r.cr4 ^ cr4::kSmap));
    case 4:
      return s.say(phrase::mov(Reg::kEfer, r.efer ^ efer::kNxe));
    default:
      if (r.cr4 & cr4::kPke && s.rng().flip())
        return s.say(phrase::mov(Reg::kPkru, s.rng().below(256)));
      return s.say(phrase::mov(Reg::kCr4, r.cr4 ^ cr4::kPke));
  }
}

// The rights of an entry at any level and the controls that read them change in turn.
void rights_under_controls(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.touch(gva);
  for (unsigned i = 0; i < 2 + s.rng().below(2); ++i) {
    toggle_right(s);
    s.touch(gva);
    const Survey::Entry e = s.entry_of(gva);
    static constexpr std::uint64_t kRights[] = {pte::kW, pte::kU, pte::kXd, pte::kW | pte::kU};
    const std::uint64_t value =
        e.pdpte_of_pae ? s.changed(e) : (e.value | pte::kA) ^ s.rng().pick(kRights);
    s.deliver(e.gpa, value);
    if (s.rng().flip()) toggle_right(s);
    if (s.rng().flip()) s.invalidate(gva);
    s.touch(gva);
    if (s.rng().flip()) s.touch(gva);
  }
}

// CR0.WP=0 lets the supervisor write where nobody may; then the controls change, and whatever that
// left behind meets each kind of access.
void controls_after_trick(Sketch& s) {
  const std::uint64_t gva = s.pool_gva();
  Op map = phrase::map(gva, s.rng().chance(1, 3) ? s.rng().pick(kLargeFrames) : s.frame(),
                       s.rng().chance(1, 3) ? 2 : 1);
  map.pte = pte::kP | pte::kU | (s.rng().flip() ? pte::kA | pte::kD : 0);
  s.say(map);
  s.say(phrase::mov(Reg::kCr0, s.registers().cr0 & ~cr0::kWp));
  s.say(phrase::access_at(AccessKind::kWrite, gva, 8, 0));
  for (unsigned i = 0; i < 1 + s.rng().below(3); ++i) {
    toggle_right(s);
    static constexpr AccessKind kKinds[] = {AccessKind::kFetch, AccessKind::kFetch,
                                            AccessKind::kRead, AccessKind::kWrite};
    s.say(phrase::access_at(s.rng().pick(kKinds), gva, 8, 0));
    if (s.rng().flip()) s.say(phrase::access_at(s.rng().pick(kKinds), gva, 8, 3));
  }
  s.touch(gva);
}

// Accesses that the processor makes by itself, as the supervisor whatever the CPL and AC say.
void implicit_supervisor(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const auto implicitly = [&] {
    s.say(phrase::implicit_access(s.rng().flip() ? AccessKind::kRead : AccessKind::kWrite, gva));
  };
  if (!(s.registers().cr4 & cr4::kSmap))
    s.say(phrase::mov(Reg::kCr4, s.registers().cr4 | cr4::kSmap));
  s.say(phrase::mov(Reg::kAc, s.rng().chance(3, 4)));
  if (s.rng().flip()) s.touch(gva);
  implicitly();
  if (s.rng().flip()) s.say(phrase::mov(Reg::kCpl, s.rng().flip() ? 3 : 0));
  implicitly();
  const Survey::Entry e = s.entry_of(gva);
  s.deliver(e.gpa, (e.value | pte::kA) ^ (e.pdpte_of_pae ? pte::kPcd : pte::kU));
  if (s.rng().flip()) s.invalidate(gva);
  implicitly();
  s.touch(gva);
}

// What happens to a whole vCPU, while tables are unsync, memory is short or gone, or a log is on.
void event_amid(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const Registers old = s.registers();
  s.warm(gva);
  const Survey::Entry e = s.walk(gva).last();
  switch (s.rng().below(6)) {
    case 0:
    case 1:
      s.deliver_native(e.gpa, e.value | pte::kA);
      s.deliver_native(e.gpa, s.changed(e));
      break;
    case 2:
      s.say(phrase::slot_flags(0, slot_flag::kLogDirty));
      break;
    case 3:
      s.say(phrase::slot_delete(0));
      break;
    case 4:
      s.say(phrase::zap_all());
      break;
    default:
      s.say(phrase::smm(true));
      break;
  }
  switch (s.rng().below(6)) {
    case 0:
      s.say(phrase::init(s.rng().flip()));
      break;
    case 1:
      s.say(phrase::new_vcpu());
      break;
    case 2:
      s.say(
          phrase::cpuid(s.machine().features ^ static_cast<std::uint32_t>(bit(s.rng().below(13)))));
      break;
    case 3:
      s.say(phrase::smm(s.rng().flip()));
      break;
    case 4:
      s.enter(static_cast<Mode>(s.rng().below(5)));
      break;
    default:
      s.say(phrase::cpuid_width(36 + s.rng().below(17)));
      break;
  }
  s.touch(gva);
  s.say(phrase::slot_add(0, 0, s.machine().memory_bytes() / kPage, kHvaBase, 0));
  s.say(phrase::smm(false));
  if (s.rng().chance(3, 4)) s.say(phrase::sregs(old.cr0, old.cr3, old.cr4, old.efer));
  s.touch(gva);
  s.deliver(e.gpa, s.changed(e));
  s.invalidate(gva);
  s.touch(gva);
}

constexpr Idiom kIdioms[] = {
    {"large-entry-by-host", 3, large_entry_by_host},
    {"page-by-host", 2, page_by_host},
    {"tables-read-only", 2, tables_read_only},
    {"link-unsync-table", 4, link_unsync_table},
    {"data-page-becomes-table", 3, data_page_becomes_table},
    {"table-moves-up", 3, table_moves_up},
    {"flood-upper-table", 3, flood_upper_table},
    {"rights-under-controls", 4, rights_under_controls},
    {"controls-after-trick", 2, controls_after_trick},
    {"implicit-supervisor", 2, implicit_supervisor},
    {"event-amid", 2, event_amid},
};

}  // namespace

std::span<const Idiom> hidden_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
