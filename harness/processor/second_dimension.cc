#include "harness/processor/second_dimension.h"

#include <atomic>
#include <iterator>

namespace twinwalk::processor {
namespace {

using Kind = NestedFormat::Kind;

constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;
constexpr unsigned kMostLevels = 5;

// Exit qualification, SDM 3C §"Exit Qualification for EPT Violations"; EXITINFO1, APM 2 §"Nested
// versus Guest Page Faults, Fault Ordering": this file's own words.
constexpr unsigned kQRead = 0, kQWrite = 1, kQFetch = 2, kQReadable = 3, kQWritable = 4,
                   kQExecutable = 5, kQUserExecutable = 6, kQLinear = 7, kQFinal = 8,
                   kQAdvanced = 9;
constexpr unsigned kNPresent = 0, kNWrite = 1, kNUser = 2, kNReserved = 3, kNFetch = 4,
                   kNFinal = 32, kNTable = 33;

constexpr std::uint64_t put(bool value, unsigned n) { return std::uint64_t{value} << n; }
constexpr unsigned shift_of(unsigned level) { return 12 + 9 * (level - 1); }
constexpr std::uint64_t in_page(std::uint64_t address, unsigned level) {
  return address & (bit(shift_of(level)) - 1);
}

NestedRights both(const NestedRights& a, const NestedRights& b) {
  return {a.read && b.read, a.write && b.write, a.execute && b.execute,
          a.user_execute && b.user_execute};
}

}  // namespace

// The entries that were read, and the rights down to each.
struct SecondDimension::Walk {
  struct Step {
    std::uint64_t at, entry;
    unsigned level;
    NestedRights rights;
  };
  Step step[kMostLevels];
  unsigned count = 0, levels = 0;
  const Step& leaf() const { return step[count - 1]; }
};

void SecondDimension::reset(const Machine& machine) {
  ept_.reset(Kind::kEpt, machine);
  npt_.reset(Kind::kNpt, machine);
  advanced_ = machine.tdp & tdp::kAdvanced;
  nxe_ = machine.tdp & tdp::kNxe;
}

std::uint64_t SecondDimension::ep4ta(const NestedControls& controls) {
  switch (controls.kind) {
    case Kind::kNone:
      return Context::kNoEp4ta;
    case Kind::kEpt:
      return controls.pointer & kAddress;
    case Kind::kNpt:
      return 0;
  }
  return Context::kNoEp4ta;
}

Context SecondDimension::context_of(const NestedControls& controls, std::uint8_t vcpu) {
  Context context;
  context.kind = Context::Kind::kGuestPhysical;
  context.vcpu = vcpu;
  context.vpid = controls.kind == Kind::kNpt ? controls.vpid : 0;
  context.ep4ta = ep4ta(controls);
  return context;
}

// `rights`: null where an entry is not present.
void SecondDimension::violation(const NestedControls& controls, std::uint64_t gpa,
                                const GpaAccess& access, const NestedRights* rights,
                                NestedExit& exit) const {
  exit.gpa = gpa;
  if (controls.kind == Kind::kNpt) {
    exit.kind = NestedExit::Kind::kNestedFault;
    exit.qualification = put(rights != nullptr, kNPresent) | put(access.write, kNWrite) |
                         put(true, kNUser) | put(access.fetch && nxe_, kNFetch) |
                         put(true, access.table ? kNTable : kNFinal);
    return;
  }
  exit.kind = NestedExit::Kind::kEptViolation;
  const bool final = access.gva_valid && !access.table;
  exit.qualification = put(access.read, kQRead) | put(access.write, kQWrite) |
                       put(access.fetch, kQFetch) | put(access.gva_valid, kQLinear) |
                       put(final, kQFinal);
  if (final && advanced_) exit.qualification |= std::uint64_t{access.advanced} << kQAdvanced;
  if (!rights) return;
  exit.qualification |= put(rights->read, kQReadable) | put(rights->write, kQWritable) |
                        put(rights->execute, kQExecutable) |
                        put(ept_.mbec() && rights->user_execute, kQUserExecutable);
}

void SecondDimension::malformed(const NestedControls& controls, std::uint64_t gpa,
                                const GpaAccess& access, NestedExit& exit) const {
  if (controls.kind == Kind::kNpt) {
    const NestedRights present;
    violation(controls, gpa, access, &present, exit);
    exit.qualification |= put(true, kNReserved);
    return;
  }
  exit.kind = NestedExit::Kind::kEptMisconfig;
  exit.gpa = gpa;
  exit.qualification = 0;
}

void SecondDimension::refuse(const NestedControls& controls, std::uint8_t vcpu, std::uint64_t gpa,
                             const GpaAccess& access, const NestedRights& rights,
                             NestedExit& exit) {
  violation(controls, gpa, access, &rights, exit);
  cache_.drop_gpa(context_of(controls, vcpu), gpa);
}

bool SecondDimension::translate(const NestedControls& controls, std::uint8_t vcpu,
                                std::uint64_t gpa, const GpaAccess& access, HostPage& page,
                                NestedExit& exit) {
  if (controls.kind == Kind::kNone) {
    page = {gpa, NestedFormat::kLargest, {}, true};
    return true;
  }
  const Context context = context_of(controls, vcpu);
  if (const Mapping* const m = cache_.find_gpa(context, gpa)) {
    if (allows(m->nested, access)) {
      if (!access.write || m->nested_dirty) {
        page = {m->base | in_page(gpa, m->level), m->level, m->nested, m->nested_dirty};
        return true;
      }
    } else if (controls.kind == Kind::kEpt) {
      refuse(controls, vcpu, gpa, access, m->nested, exit);
      return false;
    } else {
      cache_.drop_gpa(context, gpa);
    }
  }
  if (walk(controls, context, gpa, access, page, exit)) return true;
  if (exit.kind == NestedExit::Kind::kEptMisconfig || exit.kind == NestedExit::Kind::kPageLogFull)
    return false;
  // SDM 3C §"Operations that Invalidate Cached Mappings": what would translate this gpa.
  cache_.drop_gpa(context, gpa);
  // AMD never faults by what was only cached. Once more, from the root.
  return controls.kind == Kind::kNpt && walk(controls, context, gpa, access, page, exit);
}

bool SecondDimension::walk(const NestedControls& controls, const Context& context,
                           std::uint64_t gpa, const GpaAccess& access, HostPage& page,
                           NestedExit& exit) {
  const NestedFormat& format = this->format(controls.kind);
  const unsigned levels = format.levels(controls.pointer);
  if (gpa > format.reach(controls.pointer)) {
    violation(controls, gpa, access, nullptr, exit);
    return false;
  }
  while (true) {
    Walk walk;
    walk.levels = levels;
    unsigned level = levels;
    std::uint64_t table = format.root(controls.pointer);
    NestedRights rights;
    if (const Found found = cache_.find_gpa_structure(context, gpa, levels); found.structure) {
      level = found.level - 1;
      table = found.structure->table;
      rights = found.structure->nested;
    }
    for (;; --level) {
      const std::uint64_t at = table + (gpa >> shift_of(level) & 511) * 8;
      const std::uint64_t entry = memory_.load_nested(at);
      if (!format.present(entry)) {
        violation(controls, gpa, access, nullptr, exit);
        return false;
      }
      if (format.bad(entry, level, levels)) {
        malformed(controls, gpa, access, exit);
        return false;
      }
      rights = both(rights, format.rights(entry, level, levels));
      walk.step[walk.count++] = {at, entry, level, rights};
      if (format.is_leaf(entry, level)) break;
      table = entry & kAddress;
    }
    if (!allows(rights, access)) {
      violation(controls, gpa, access, &rights, exit);
      return false;
    }
    bool again = false;
    if (!set_flags(controls, walk, gpa, access.write, exit, again)) return false;
    if (again) continue;
    const Walk::Step& leaf = walk.leaf();
    page.level = static_cast<std::uint8_t>(leaf.level);
    page.rights = rights;
    page.hpa = (leaf.entry & kAddress & ~in_page(~std::uint64_t{0}, leaf.level)) |
               in_page(gpa, leaf.level);
    // Without flags there is no D to set: SDM 3C §"Accessed and Dirty Flags for EPT".
    page.dirty =
        access.write || !format.flags_on(controls.pointer) || (leaf.entry & format.dirty());
    remember(controls, context, walk, gpa, page);
    return true;
  }
}

// `again`: an entry changed meanwhile. False: the log is full, and no flag was set.
bool SecondDimension::set_flags(const NestedControls& controls, const Walk& walk, std::uint64_t gpa,
                                bool write, NestedExit& exit, bool& again) {
  const NestedFormat& format = this->format(controls.kind);
  if (!format.flags_on(controls.pointer)) return true;
  const auto missing = [&](const Walk::Step& s) -> std::uint64_t {
    if (!format.has_flags(s.level, walk.levels)) return 0;
    const bool store = write && &s == &walk.leaf();
    return (format.accessed() | (store ? format.dirty() : 0)) & ~s.entry;
  };
  bool any = false;
  for (unsigned i = 0; i < walk.count; ++i) any |= missing(walk.step[i]) != 0;
  if (!any) return true;
  PageLog* const log = controls.log;
  if (log && log->index >= PageLog::kEntries) {
    exit.kind = NestedExit::Kind::kPageLogFull;
    exit.gpa = gpa;
    exit.qualification = 0;
    return false;
  }
  for (unsigned i = 0; i < walk.count; ++i) {
    const Walk::Step& s = walk.step[i];
    const std::uint64_t bits = missing(s);
    if (bits && !memory_.update_nested(s.at, s.entry, s.entry | bits)) {
      again = true;
      return true;
    }
    if (log && (bits & format.dirty()))
      std::atomic_ref(log->page[log->index--]).store(gpa & ~std::uint64_t{4095});
  }
  return true;
}

void SecondDimension::remember(const NestedControls& controls, const Context& context,
                               const Walk& walk, std::uint64_t gpa, const HostPage& page) {
  (void)controls;
  for (unsigned i = 0; i + 1 < walk.count; ++i) {
    const Walk::Step& s = walk.step[i];
    const std::uint64_t table = s.entry & kAddress;
    memory_.note_reached(table >> 12);
    cache_.insert_gpa_structure(context, gpa, s.level, {table, 0, {}, s.rights});
  }
  Mapping mapping;
  mapping.base = page.hpa & ~in_page(~std::uint64_t{0}, page.level);
  mapping.level = page.level;
  mapping.nested = page.rights;
  mapping.nested_dirty = page.dirty;
  memory_.note_reached(mapping.base >> 12);
  cache_.insert_gpa(context, gpa, mapping);
}

bool SecondDimension::peek(const NestedControls& controls, std::uint64_t gpa, std::uint64_t& hpa,
                           NestedPath* path) const {
  hpa = gpa;
  if (controls.kind == Kind::kNone) return true;
  const NestedFormat& format = this->format(controls.kind);
  const unsigned levels = format.levels(controls.pointer);
  if (gpa > format.reach(controls.pointer)) return false;
  std::uint64_t table = format.root(controls.pointer);
  if (path != nullptr) path->levels = static_cast<std::uint8_t>(levels);
  for (unsigned level = levels;; --level) {
    const std::uint64_t at = table + (gpa >> shift_of(level) & 511) * 8;
    const std::uint64_t entry = memory_.look_nested(at);
    if (path != nullptr && path->count < std::size(path->entry)) {
      path->at[path->count] = at;
      path->entry[path->count++] = entry;
    }
    if (!format.present(entry) || format.bad(entry, level, levels)) return false;
    table = entry & kAddress;
    if (!format.is_leaf(entry, level)) continue;
    hpa = (table & ~in_page(~std::uint64_t{0}, level)) | in_page(gpa, level);
    return true;
  }
}

}  // namespace twinwalk::processor
