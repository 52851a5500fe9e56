// Operations that run inside others, at the core's yield points: another vCPU or the host acts
// between the walk and the install of a fault, between a slot's two states, between a removal and
// the flush that it owes. Configurations without `at` blocks run them one after the other.

#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"

namespace twinwalk::fuzz {
namespace {

constexpr Point kInAFault[] = {Point::kAfterWalk,    Point::kAfterFrame,  Point::kBeforeInstall,
                               Point::kAfterInstall, Point::kBeforeFlush, Point::kFrozen};
constexpr Point kInARemoval[] = {Point::kBeforeFlush, Point::kNotifierBegun, Point::kMidWalk,
                                 Point::kSlotSwapped};

// An access that is likely to fault in the core: to a page that was just mapped, or taken back.
std::uint64_t make_fault_due(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  switch (s.rng().below(4)) {
    case 0:
      s.say(phrase::zap_all());
      break;
    case 1:
      s.map(gva);
      break;
    case 2:
      s.say(phrase::host_range(Verb::kInvalidate, s.hva(), 1));
      break;
    default:
      break;
  }
  return gva;
}

std::uint64_t hva_of(Sketch& s, std::uint64_t gva) {
  const Survey::Walk w = s.walk(gva);
  return w.complete ? kHvaBase + (w.gpa & ~std::uint64_t{0xfff}) : s.hva();
}

void change_backing(Sketch& s, std::uint64_t hva) {
  switch (s.rng().below(4)) {
    case 0:
      s.say(phrase::host_range(Verb::kInvalidate, hva, 1));
      break;
    case 1:
      s.say(phrase::protect(hva, 1, false));
      break;
    case 2:
      s.say(phrase::huge(s.rng().flip() ? Verb::kHugeSplit : Verb::kHugeCollapse,
                         hva & ~(2 * kMib - 1)));
      break;
    default:
      s.say(phrase::host_range(Verb::kRemap, hva, 1));
      break;
  }
}

void change_slot(Sketch& s) {
  switch (s.rng().below(4)) {
    case 0:
      s.say(phrase::slot_flags(0, s.rng().below(4)));
      break;
    case 1:
      s.say(phrase::slot_delete(0));
      break;
    case 2:
      s.say(phrase::slot_move(0, s.rng().flip() ? 0x10'0000'0000 : 0));
      break;
    default:
      s.say(phrase::slot_add(0, 0, s.machine().memory_bytes() / kPage, kHvaBase, s.rng().below(4)));
      break;
  }
}

// Slot 0 as it was at first.
void restore_slot(Sketch& s) {
  s.say(phrase::slot_delete(0));
  s.say(phrase::slot_add(0, 0, s.machine().memory_bytes() / kPage, kHvaBase, 0));
}

// The host takes the frame back while a fault is about to map it.
void fault_meets_host(Sketch& s) {
  const std::uint64_t gva = make_fault_due(s), hva = hva_of(s, gva);
  s.touch(gva);
  s.inside(s.rng().pick(kInAFault), s.vcpu(), [&] { change_backing(s, hva); });
  s.touch(gva);
  s.on_vcpu(s.other_vcpu(), [&] { s.touch(gva); });
}

void fault_meets_slot(Sketch& s) {
  const std::uint64_t gva = make_fault_due(s);
  s.touch(gva);
  s.inside(s.rng().pick(kInAFault), s.vcpu(), [&] { change_slot(s); });
  s.touch(gva);
  restore_slot(s);
  s.touch(gva);
}

// Two vCPUs fault on the same page, or on pages of the same tables.
void two_faults(Sketch& s) {
  const std::uint64_t gva = make_fault_due(s);
  s.touch(gva);
  s.inside(s.rng().pick(kInAFault), s.other_vcpu(), [&] {
    s.touch(s.rng().flip() ? gva : s.mapped_gva());
    if (s.rng().flip()) s.touch(gva);
  });
  s.touch(gva);
}

// The guest's entry changes between the walk that has read it and the install.
void fault_meets_edit(Sketch& s) {
  const std::uint64_t gva = make_fault_due(s);
  const Survey::Entry e = s.entry_of(gva);
  s.touch(gva);
  s.inside(s.rng().pick(kInAFault), s.other_vcpu(), [&] {
    s.deliver(e.gpa, s.changed(e));
    if (s.rng().flip()) s.invalidate(gva);
  });
  s.invalidate(gva);
  s.touch(gva);
}

// Accesses while translations go: before the flush the processor may still have them.
void removal_meets_access(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  const unsigned other = s.other_vcpu();
  s.warm(gva);
  s.on_vcpu(other, [&] { s.warm(gva); });
  bool slots = false;
  switch (s.rng().below(4)) {
    case 0:
      change_backing(s, hva_of(s, gva));
      break;
    case 1:
      s.say(s.rng().flip() ? phrase::zap_all() : phrase::reclaim(64));
      break;
    default:
      change_slot(s);
      slots = true;
      break;
  }
  s.inside(s.rng().pick(kInARemoval), other, [&] {
    s.touch(gva);
    if (s.rng().flip()) s.touch(s.mapped_gva());
  });
  s.on_vcpu(other, [&] { s.touch(gva); });
  if (slots) restore_slot(s);
  s.touch(gva);
}

// A removal so long that it lets others in half-way: the host takes again what it has taken
// already, and what it is yet to take.
void removal_meets_host(Sketch& s) {
  const std::uint64_t gva = s.pool_gva() & ~(2 * kMib - 1), gpa = s.rng().pick(kLargeFrames);
  const std::uint64_t hva = kHvaBase + gpa, far = gva + 0x1000 * s.rng().below(512);
  s.map_large(gva, gpa, 2);
  s.touch(gva);
  s.on_vcpu(s.other_vcpu(), [&] { s.touch(far); });
  switch (s.rng().below(5)) {
    case 0:
      s.say(phrase::attributes(gpa & ~shared_bit(s.machine()), 512, s.rng().flip()));
      break;
    case 1:
      s.say(phrase::protect(hva, 512, false));
      break;
    case 2:
      change_slot(s);
      break;
    default:
      s.say(phrase::host_range(s.rng().flip() ? Verb::kRemap : Verb::kInvalidate, hva,
                               512 * (1 + s.rng().below(2))));
      break;
  }
  s.inside(s.rng().chance(3, 4) ? Point::kMidWalk : s.rng().pick(kInARemoval), s.vcpu(), [&] {
    change_backing(s, s.rng().chance(2, 3) ? hva : hva + (far - gva));
    if (s.rng().chance(1, 3)) s.touch(gva);
  });
  s.touch(gva);
  s.touch(far);
}

// A store to a table, and another vCPU in the middle of what the core does about it.
void table_store_meets_access(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  const Survey::Entry e = s.entry_of(gva);
  s.warm(gva);
  s.deliver(e.gpa, s.changed(e));
  s.inside(s.rng().flip() ? Point::kBeforeFlush : Point::kAfterUnlock, s.other_vcpu(), [&] {
    s.touch(gva);
    if (s.rng().flip()) s.deliver(e.gpa, s.changed(e));
  });
  s.invalidate(gva);
  s.touch(gva);
}

// A read-modify-write that the core does itself, and a store of another vCPU to the same word.
void rmw_meets_store(Sketch& s) {
  std::uint64_t table = s.table_frame();
  if (table >= kDirectMapSize) table = kTablePool;
  s.need_direct_map(table);
  const std::uint64_t at = table + s.rng().below(512) * 8;
  const std::uint64_t gva = direct_map(s.mode()) + at;
  s.touch(gva);
  s.say(phrase::access(AccessKind::kRmw, gva, 8));
  s.inside(s.rng().flip() ? Point::kBeforeFlush : Point::kAfterWalk, s.other_vcpu(), [&] {
    s.say(phrase::access(s.rng().flip() ? AccessKind::kWrite : AccessKind::kRmw, gva, 8));
  });
  s.say(phrase::access(AccessKind::kRead, gva, 8));
}

// What is written while the log is collected is in this collection or the next.
void log_meets_store(Sketch& s) {
  const std::uint64_t gva = s.mapped_page();
  s.say(phrase::slot_flags(0, slot_flag::kLogDirty));
  s.warm(gva);
  s.say(phrase::dirty_get(0));
  s.inside(s.rng().pick(kInARemoval), s.other_vcpu(), [&] { s.touch(gva); });
  s.touch(gva);
  s.say(phrase::dirty_get(0));
}

constexpr Idiom kIdioms[] = {
    {"fault-meets-host", 4, fault_meets_host},
    {"fault-meets-slot", 3, fault_meets_slot},
    {"two-faults", 4, two_faults},
    {"fault-meets-edit", 4, fault_meets_edit},
    {"removal-meets-access", 4, removal_meets_access},
    {"removal-meets-host", 2, removal_meets_host},
    {"table-store-meets-access", 3, table_store_meets_access},
    {"rmw-meets-store", 2, rmw_meets_store},
    {"log-meets-store", 2, log_meets_store},
};

}  // namespace

std::span<const Idiom> overlap_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
