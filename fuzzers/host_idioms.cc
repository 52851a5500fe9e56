#include "fuzzers/idioms.h"
#include "fuzzers/phrases.h"
#include "fuzzers/pools.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

// Where slot 0 lives while the others come and go.
constexpr std::uint64_t kMovedTo = 0x10'0000'0000;

void add_and_use_slot(Sketch& s) {
  const std::uint64_t id = 1 + s.rng().below(3), gpa = s.rng().pick(kSlotGpas);
  const std::uint64_t flags = s.rng().below(4);
  const std::uint64_t gva = s.pool_gva();
  s.say(phrase::map(gva, gpa, 1));
  if (s.rng().flip()) s.touch(gva);  // as MMIO, before the slot is there
  s.say(phrase::slot_add(id, gpa, s.rng().pick(kSlotPages), s.rng().pick(kSlotHvas), flags));
  s.touch(gva);
  s.touch(gva);
  switch (s.rng().below(5)) {
    case 0:
      s.say(phrase::slot_flags(id, flags ^ (1 + s.rng().below(3))));
      break;
    case 1:
      s.say(phrase::slot_move(id, s.rng().pick(kSlotGpas)));
      break;
    case 2:
      s.say(phrase::dirty_get(id));
      break;
    default:
      s.say(phrase::slot_delete(id));
      break;
  }
  s.touch(gva);
  if (s.rng().flip()) s.say(phrase::slot_delete(id));
  s.touch(gva);
}

// The slot that holds everything goes away and comes back, perhaps elsewhere.
void pull_memory(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  switch (s.rng().below(4)) {
    case 0:
      s.say(phrase::slot_move(0, kMovedTo));
      if (s.rng().flip()) s.touch(gva);
      s.say(phrase::slot_move(0, 0));
      break;
    case 1:
      s.say(phrase::slot_flags(0, slot_flag::kReadOnly));
      s.touch(gva);
      s.say(phrase::slot_flags(0, s.rng().flip() ? 0 : slot_flag::kLogDirty));
      break;
    default:
      s.say(phrase::slot_delete(0));
      if (s.rng().flip()) s.touch(gva);
      s.say(phrase::slot_add(0, 0, s.machine().memory_bytes() / kPage, kHvaBase,
                             s.rng().chance(1, 4) ? 2 : 0));
      break;
  }
  s.touch(gva);
  s.touch(gva);
}

// A device page becomes memory, or memory a device, also when the host does the edit.
void device(Sketch& s) {
  const std::uint64_t gva = s.pool_gva(), io = s.rng().pick(kDevices);
  s.say(phrase::map(gva, s.rng().flip() ? io : s.frame(), 1));
  s.touch(gva);
  const Survey::Entry e = s.walk(gva).last();
  const std::uint64_t to = (e.value & pte::kAddressMask) == io ? s.frame() : io;
  const std::uint64_t value = (e.value & ~pte::kAddressMask) | to | pte::kA;
  if (s.rng().flip()) {
    s.say(phrase::write(e.gpa, value, e.bytes, Writer::kHost));
  } else {
    s.deliver(e.gpa, value);
  }
  s.invalidate(gva);
  s.touch(gva, true);
  s.touch(gva);
}

void notify(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  const std::uint64_t hva = s.hva();
  const std::uint64_t pages = s.rng().chance(3, 4) ? 1 : s.rng().pick(kSlotPages);
  switch (s.rng().below(7)) {
    case 0:
      s.say(phrase::host_range(Verb::kInvalidate, hva, pages));
      break;
    case 1:
      s.say(phrase::host_range(Verb::kAge, hva, pages));
      break;
    case 2:
    case 3: {
      s.say(phrase::protect(hva, pages, false));
      s.touch(gva);
      if (s.rng().flip()) s.say(phrase::protect(hva, pages, true));
      break;
    }
    case 4:
      s.say(phrase::huge(s.rng().flip() ? Verb::kHugeSplit : Verb::kHugeCollapse,
                         hva & ~(2 * kMib - 1)));
      break;
    default:
      s.say(phrase::host_range(Verb::kRemap, hva, pages));
      break;
  }
  s.touch(gva);
  s.touch(s.mapped_gva());
}

// Logging on, writes by every way, collection, the same writes again: none may be lost.
void log_dirty(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  if (s.rng().flip()) s.warm(gva);
  s.say(phrase::slot_flags(0, slot_flag::kLogDirty));
  for (unsigned round = 0; round < 2 + s.rng().below(2); ++round) {
    s.say(phrase::access(AccessKind::kWrite, gva));
    if (s.rng().flip()) s.say(phrase::write(s.frame(), s.rng().next(), 8, Writer::kGuest));
    if (s.rng().chance(1, 3)) {
      const Survey::Entry e = s.entry_of(gva);
      s.deliver(e.gpa, e.value | pte::kA);
    }
    if (s.rng().chance(1, 4)) s.touch(s.mapped_gva(), true);
    s.say(phrase::dirty_get(0));
  }
  s.say(phrase::access(s.rng().flip() ? AccessKind::kWrite : AccessKind::kRmw, gva));
  s.say(phrase::dirty_get(0));
  if (s.rng().flip()) s.say(phrase::slot_flags(0, 0));
}

// Others want to hear of stores to a page, of data or a table, that may be written already, is
// logged perhaps, or goes.
void track_stores(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  const Survey::Entry e = s.entry_of(gva);
  const std::uint64_t page = (s.rng().flip() ? e.gpa : e.value & pte::kAddressMask) & ~(kPage - 1);
  const bool logs = s.rng().chance(1, 3);
  s.say(phrase::access(AccessKind::kWrite, gva));
  if (logs) {
    s.say(phrase::slot_flags(0, slot_flag::kLogDirty));
    s.say(phrase::dirty_get(0));
  }
  s.say(phrase::track(page, true));
  s.say(phrase::access(s.rng().chance(1, 4) ? AccessKind::kRmw : AccessKind::kWrite, gva));
  if (s.rng().flip()) s.deliver(e.gpa, s.changed(e));
  if (logs) s.say(phrase::dirty_get(0));
  s.touch(gva);
  if (s.rng().chance(1, 4)) s.say(phrase::slot_delete(0));
  if (s.rng().chance(2, 3)) s.say(phrase::track(page, false));
  s.touch(gva, true);
}

// Shadow pages are taken away in the middle of use.
void squeeze(Sketch& s) {
  const std::uint64_t gva = s.mapped_gva();
  s.warm(gva);
  switch (s.rng().below(6)) {
    case 0:
    case 1:
      s.say(phrase::zap_all());
      break;
    case 2:
      s.say(phrase::quota(kMinQuota + s.rng().below(8)));
      break;
    case 3:
      s.say(phrase::fail_alloc(s.rng().below(4), 1 + s.rng().below(4)));
      break;
    default:
      s.say(phrase::reclaim(1 + s.rng().below(s.rng().flip() ? 4 : 64)));
      break;
  }
  s.touch(gva);
  if (s.rng().flip()) {
    const Survey::Entry e = s.entry_of(gva);
    s.deliver(e.gpa, s.changed(e));
    s.invalidate(gva);
  }
  s.touch(gva);
  s.touch(s.mapped_gva());
}

constexpr Idiom kIdioms[] = {
    {"add-and-use-slot", 3, add_and_use_slot},
    {"pull-memory", 3, pull_memory},
    {"device", 3, device},
    {"notify", 4, notify},
    {"log-dirty", 4, log_dirty},
    {"squeeze", 4, squeeze},
    {"track-stores", 3, track_stores},
};

}  // namespace

std::span<const Idiom> host_idioms() { return kIdioms; }

}  // namespace twinwalk::fuzz
