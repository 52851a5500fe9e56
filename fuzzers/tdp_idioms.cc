// Idioms of two-dimensional paging. Elsewhere they say what is refused or skipped, and touch
// memory.

#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"

namespace twinwalk::fuzz {
namespace {

std::uint64_t page_of(std::uint64_t gpa) { return gpa & ~(kPage - 1); }

// The same page by a private and a shared address, while it changes its kind.
void private_and_shared(Sketch& s) {
  const std::uint64_t shared = shared_bit(s.machine());
  const std::uint64_t gva = s.mapped_gva(), alias = s.pool_gva();
  const std::uint64_t gpa = page_of(s.walk(gva).gpa) & ~shared;
  s.say(phrase::map(alias, gpa | shared, 1));
  if (s.rng().flip()) s.warm(gva);
  const std::uint64_t first = s.rng().chance(1, 4) ? gpa & ~(2 * kMib - 1) : gpa;
  const std::uint64_t pages = s.rng().chance(1, 2) ? 1 : s.rng().pick(kSlotPages);
  s.say(phrase::attributes(first, pages, false));
  s.touch(gva);
  s.touch(alias, true);
  if (s.rng().chance(1, 3)) s.say(phrase::attributes(gpa, 1, s.rng().flip()));
  if (s.rng().chance(1, 4)) s.say(phrase::write(gpa | shared, s.rng().next(), 8, Writer::kGuest));
  if (s.rng().flip()) s.say(phrase::attributes(first, pages, true));
  s.touch(alias);
  s.touch(gva);
}

// Memory whose stores are watched, by the host's log or by others, or refused, while it changes its
// kind: with tables of a module's it has to be shared first.
void watched_memory(Sketch& s) {
  constexpr std::uint64_t kSlot = 5;
  const std::uint64_t shared = shared_bit(s.machine()), gva = s.pool_gva();
  const std::uint64_t gpa = s.rng().pick(kSlotGpas), pages = s.rng().pick(kSlotPages);
  const std::uint64_t watch = s.rng().flip() ? slot_flag::kLogDirty : slot_flag::kReadOnly;
  if (s.rng().chance(2, 3)) s.say(phrase::attributes(gpa, pages, false));
  s.say(phrase::slot_add(kSlot, gpa, pages, s.hva(), s.rng().flip() ? watch : 0));
  s.say(phrase::map(gva, gpa | (s.rng().flip() ? shared : 0), 1));
  s.touch(gva, true);
  if (s.rng().flip()) {
    s.say(phrase::slot_flags(kSlot, watch));
  } else {
    s.say(phrase::track(gpa, true));
  }
  s.touch(gva, true);
  s.say(phrase::attributes(gpa, 1, s.rng().chance(2, 3)));
  s.touch(gva, true);
  if (s.rng().flip()) s.say(phrase::slot_flags(kSlot, 0));
  if (s.rng().flip()) s.say(phrase::track(gpa, false));
  if (s.rng().chance(1, 3)) s.say(phrase::slot_move(kSlot, s.rng().pick(kSlotGpas)));
  s.say(phrase::attributes(gpa, pages, true));
  s.touch(gva, true);
  if (s.rng().chance(1, 3)) s.say(phrase::slot_delete(kSlot));
  s.touch(gva);
}

// A table of the guest's in shared memory, reached as such or not.
void shared_table(Sketch& s) {
  const std::uint64_t shared = shared_bit(s.machine()), gva = s.mapped_gva();
  s.warm(gva);
  const Survey::Entry e = s.entry_of(gva);
  const std::uint64_t table = page_of(e.value & pte::kAddressMask) & ~shared;
  s.say(phrase::attributes(table, 1, false));
  if (s.rng().chance(1, 3)) s.touch(gva);
  s.deliver(e.gpa, e.value | shared);
  s.invalidate(gva);
  s.touch(gva);
  if (s.rng().flip()) s.say(phrase::attributes(table, 1, true));
  s.deliver(e.gpa, e.value);
  s.invalidate_here(gva);
  s.touch(gva);
}

void ahead_of_use(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  const std::uint64_t gpa = s.rng().flip() ? page_of(s.walk(gva).gpa) : s.frame();
  const std::uint64_t pages = s.rng().pick(kSlotPages);
  s.say(phrase::prefault(gpa, pages));
  s.touch(gva);
  s.say(phrase::host_range(s.rng().flip() ? Verb::kRemap : Verb::kInvalidate, s.hva(), pages));
  if (s.rng().flip()) s.say(phrase::prefault(gpa, pages));
  s.touch(gva);
}

// Fetches from large pages, which may not be executable as a whole, and what was split for them is
// given back; not while there is a log.
void fetch_in_large_page(Sketch& s) {
  const std::uint64_t gva = s.pool_gva() & ~(2 * kMib - 1);
  s.map_large(gva, s.rng().pick(kLargeFrames), 2);
  if (s.rng().flip()) s.warm(gva);
  s.say(phrase::access(AccessKind::kFetch, gva + s.rng().pick(kPageSteps)));
  if (s.rng().chance(1, 3)) s.say(phrase::slot_flags(0, slot_flag::kLogDirty));
  s.say(phrase::access(AccessKind::kWrite, gva + s.rng().pick(kPageSteps)));
  s.say(phrase::nx_recover(1 + s.rng().below(4)));
  s.touch(gva);
  s.say(phrase::access(AccessKind::kFetch, gva));
}

// The log cleared piece by piece.
void clear_log(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.say(phrase::slot_flags(0, slot_flag::kLogDirty));
  s.say(phrase::access(AccessKind::kWrite, gva));
  s.say(phrase::dirty_get(0));
  s.say(phrase::dirty_clear(0, page_of(s.walk(gva).gpa), s.rng().pick(kSlotPages)));
  s.say(phrase::access(AccessKind::kWrite, gva));
  s.say(phrase::dirty_get(0));
}

constexpr Idiom kIdioms[] = {
    {"private-and-shared", 3, private_and_shared},
    {"watched-memory", 2, watched_memory},
    {"shared-table", 2, shared_table},
    {"ahead-of-use", 2, ahead_of_use},
    {"fetch-in-large-page", 2, fetch_in_large_page},
    {"clear-log", 2, clear_log},
};

}  // namespace

std::span<const Idiom> tdp_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
