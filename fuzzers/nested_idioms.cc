// Idioms of traces that are a hypervisor with AMD's nested paging (core=bare nested=npt). Guest
// tables and all below 2 MiB lie under one nested 2M page, so that a guest's own tables stay in
// reach; what happens, happens to nested entries of the frames above.

#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"

namespace twinwalk::fuzz {
namespace {

constexpr std::uint64_t kOtherRoot = kNestedPool + 40 * kPage;
constexpr std::uint64_t kAll = pte::kP | pte::kW | pte::kU;
// Frames of the machine's, and guest-physical pages that nested tables give it.
constexpr std::uint64_t kTargets[] = {0x5000, 0x6000, 0x200000, 0x201000, 0x400000, 0x600000};
constexpr std::uint64_t kGiven[] = {0x200000, 0x201000, 0x3ff000, 0x400000, 0x40000000, 0x40001000};

std::uint64_t some_root(Sketch& s) { return s.rng().chance(1, 6) ? kOtherRoot : kNestedPool; }

Op enter(Sketch& s, std::uint64_t root, std::uint64_t tlb = 0) {
  return phrase::vm_enter(root, s.rng().chance(1, 5) ? 2 : 1, tlb);
}

// A guest that runs.
void begin(Sketch& s, std::uint64_t root = kNestedPool) {
  if (s.rng().chance(1, 4)) return;
  s.say(phrase::npt_map(0, 0, 2, root, kAll));
  s.say(enter(s, root, s.rng().chance(1, 3) ? 1 : 0));
}

// What has been changed counts from there on.
void flush(Sketch& s, std::uint64_t root = kNestedPool) {
  if (s.rng().chance(1, 4)) return;
  if (s.rng().flip()) s.say(phrase::vm_exit());
  s.say(enter(s, root, s.rng().chance(3, 4) ? 1 : 0));
}

std::uint64_t rights(Sketch& s) {
  std::uint64_t bits = kAll;
  if (s.rng().chance(1, 3)) bits ^= pte::kW;
  if (s.rng().chance(1, 6)) bits ^= pte::kP;
  if (s.rng().chance(1, 6)) bits ^= pte::kU;
  if (s.rng().chance(1, 5)) bits |= pte::kXd;
  if (s.rng().chance(1, 4)) bits |= pte::kA | (s.rng().flip() ? pte::kD : 0);
  if (s.rng().chance(1, 12)) bits |= bit(45);
  return bits;
}

// By the hypervisor: the processor that runs the guest, or another.
void edit(Sketch& s, const Op& op) {
  s.on_vcpu(s.rng().flip() ? s.vcpu() : s.other_vcpu(), [&] { s.say(op); });
}

// A nested page comes, goes, moves, changes its rights.
void nested_page(Sketch& s) {
  const std::uint64_t gva = s.pool_gva(), given = s.rng().pick(kGiven), root = some_root(s);
  begin(s, root);
  s.say(phrase::map(gva, given, 1));
  if (s.rng().chance(3, 4)) s.say(phrase::npt_map(given, s.rng().pick(kTargets), 1, root, kAll));
  s.touch(gva);
  s.warm(gva);
  for (unsigned n = 1 + s.rng().below(3); n > 0; --n) {
    edit(s, phrase::npt_map(given, s.rng().pick(kTargets), 1, root, rights(s)));
    s.touch(gva);
    if (s.rng().flip()) flush(s, root);
    s.touch(gva, true);
  }
}

// Large nested pages, split and joined.
void nested_large(Sketch& s) {
  const std::uint64_t gva = s.pool_gva(), given = s.rng().pick(kGiven);
  const std::uint64_t start = given & ~(2 * kMib - 1);
  begin(s);
  s.say(phrase::map(gva, given, 1));
  s.say(phrase::npt_map(start, s.rng().pick(kLargeFrames), 2, kNestedPool, kAll));
  s.touch(gva);
  edit(s, phrase::npt_map(given, s.rng().pick(kTargets), 1, kNestedPool, rights(s)));
  flush(s);
  s.touch(gva);
  edit(s, phrase::npt_map(start, s.rng().pick(kLargeFrames), 2, kNestedPool, rights(s)));
  if (s.rng().flip()) flush(s);
  s.touch(gva, true);
}

// One nested table in several places, and as a table of several levels.
void nested_shared_table(Sketch& s) {
  constexpr std::uint64_t kTable = kNestedPool + 48 * kPage;
  const std::uint64_t gva = s.pool_gva(), other = s.pool_gva();
  begin(s);
  s.say(phrase::map(gva, 0x800000, 1));
  s.say(phrase::map(other, 0x40000000, 1));
  // Tables that lead there are made, and then linked anew.
  s.say(phrase::npt_map(0x800000, s.rng().pick(kTargets), 1, kNestedPool, kAll));
  s.say(phrase::npt_map(0x40000000, s.rng().pick(kTargets), 1, kNestedPool, kAll));
  s.say(phrase::write(kTable, s.rng().pick(kTargets) | kAll, 8, Writer::kGuest));
  const auto link = [&](std::uint64_t table, std::uint64_t index, std::uint64_t bits) {
    edit(s, phrase::write(table + 8 * index, kTable | bits, 8, Writer::kGuest));
  };
  link(kNestedPool + 2 * kPage, 4, kAll);
  flush(s);
  s.touch(gva);
  // As a page directory it leads to what it maps as a page table.
  if (s.rng().flip()) {
    link(kNestedPool + kPage, 1, s.rng().flip() ? kAll : kAll ^ pte::kW);
  } else {
    link(kNestedPool + 2 * kPage, 5, kAll ^ pte::kW);
    s.say(phrase::map(other, 0xa00000, 1));
  }
  flush(s);
  s.touch(other);
  edit(s, phrase::write(kTable, s.rng().pick(kTargets) | rights(s), 8, Writer::kGuest));
  flush(s);
  s.touch(gva);
  s.touch(other);
}

// The guest itself has a nested table among its pages.
void nested_table_given_away(Sketch& s) {
  const std::uint64_t gva = s.pool_gva(), window = s.pool_gva(), given = s.rng().pick(kGiven);
  begin(s);
  s.say(phrase::map(gva, given, 1));
  s.say(phrase::npt_map(given, s.rng().pick(kTargets), 1, kNestedPool, kAll));
  const std::uint64_t table = kNestedPool + (2 + s.rng().below(4)) * kPage;
  s.say(phrase::map(window, table, 1));
  s.touch(gva);
  s.say(phrase::access(AccessKind::kRead, window));
  const std::uint64_t at = (given >> 12 & 511) * 8;
  s.say(phrase::store(window + at, s.rng().pick(kTargets) | rights(s)));
  if (s.rng().flip()) flush(s);
  s.touch(gva);
}

// A table of the guest's moves below it, or loses rights.
void nested_guest_table(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  begin(s);
  const Survey::Entry e = s.entry_of(gva);
  const std::uint64_t table = e.gpa & ~(kPage - 1);
  s.say(phrase::map(gva, s.rng().pick(kTargets), 1));
  s.touch(gva);
  edit(s,
       phrase::npt_map(table, s.rng().chance(2, 3) ? table : s.frame(), 1, kNestedPool, rights(s)));
  flush(s);
  s.touch(gva);
  edit(s, phrase::npt_map(table, table, 1, kNestedPool, kAll));
  if (s.rng().flip()) flush(s);
  s.touch(gva);
}

// Two nested address spaces with one ASID, or two.
void nested_roots(Sketch& s) {
  const std::uint64_t gva = s.pool_gva(), given = s.rng().pick(kGiven);
  s.say(phrase::npt_map(0, 0, 2, kOtherRoot, kAll));
  begin(s);
  s.say(phrase::map(gva, given, 1));
  s.say(phrase::npt_map(given, s.rng().pick(kTargets), 1, kNestedPool, kAll));
  s.say(phrase::npt_map(given, s.rng().pick(kTargets), 1, kOtherRoot, rights(s)));
  s.touch(gva);
  s.say(enter(s, kOtherRoot, s.rng().flip() ? 1 : 0));
  s.touch(gva);
  edit(s, phrase::npt_map(given, s.rng().pick(kTargets), 1, kNestedPool, rights(s)));
  s.say(enter(s, kNestedPool, s.rng().flip() ? 1 : 0));
  s.touch(gva);
}

// The guest's own entry changes, and one of the ways to tell.
void nested_guest_entry(Sketch& s) {
  const std::uint64_t gva = s.pool_gva(), given = s.rng().pick(kGiven);
  begin(s);
  s.say(phrase::npt_map(given, s.rng().pick(kTargets), 1, kNestedPool, kAll));
  s.say(phrase::map(gva, given, 1));
  s.touch(gva);
  const Survey::Entry e = s.entry_of(gva);
  s.deliver(e.gpa, s.changed(e));
  if (s.rng().flip()) {
    s.say(phrase::invlpga(gva, s.rng().chance(3, 4) ? 1 : 2));
  } else {
    s.invalidate(gva);
  }
  s.touch(gva);
}

constexpr Idiom kIdioms[] = {
    {"nested-page", 5, nested_page},
    {"nested-large", 3, nested_large},
    {"nested-shared-table", 3, nested_shared_table},
    {"nested-table-given-away", 2, nested_table_given_away},
    {"nested-guest-table", 3, nested_guest_table},
    {"nested-roots", 2, nested_roots},
    {"nested-guest-entry", 2, nested_guest_entry},
};

}  // namespace

std::span<const Idiom> nested_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
