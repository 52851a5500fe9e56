#include "harness/processor/combined_cache.h"

namespace twinwalk::processor {
namespace {

Context global_of(Context context) {
  context.pcid = Context::kGlobal;
  return context;
}

}  // namespace

CombinedCache::CombinedCache()
    : mappings_(kCapacity),
      gpa_mappings_(kCapacity),
      structures_(kCapacity),
      gpa_structures_(kCapacity) {}

void CombinedCache::reset(unsigned limit) {
  clear();
  mappings_.set_limit(limit);
  gpa_mappings_.set_limit(limit);
  structures_.set_limit(limit);
  gpa_structures_.set_limit(limit);
}

void CombinedCache::clear() {
  mappings_.clear();
  gpa_mappings_.clear();
  structures_.clear();
  gpa_structures_.clear();
  contexts_.clear();
  chosen_.clear();
  guest_shifts_ = 0;
  sizes_ = gpa_sizes_ = gpa_structure_levels_ = {};
  any_global_ = false;
  age_ = 0;
}

unsigned CombinedCache::number_of(const Context& context) {
  unsigned& recent = recent_[context.kind == Context::Kind::kGuestPhysical ? 2
                             : context.pcid == Context::kGlobal            ? 1
                                                                           : 0];
  if (recent >= contexts_.size() || contexts_[recent] != context) recent = seek_number(context);
  return recent;
}

// Few are ever in use; should they run out, all is forgotten, which is always allowed.
unsigned CombinedCache::seek_number(const Context& context) {
  for (std::size_t n = contexts_.size(); n-- > 0;) {
    if (contexts_[n] == context) return static_cast<unsigned>(n);
  }
  if (contexts_.size() == kMostContexts) clear();
  contexts_.push_back(context);
  chosen_.push_back(0);
  return static_cast<unsigned>(contexts_.size() - 1);
}

template <class Table>
const Mapping* CombinedCache::oldest(Table& table, Levels sizes, unsigned context,
                                     std::uint64_t address, const Mapping* best) {
  sizes.for_each([&](unsigned level) {
    const Mapping* const m = table.find(page_key(context, address, level));
    if (m && (!best || m->age < best->age)) best = m;
  });
  return best;
}

const Mapping* CombinedCache::find(const Context& context, std::uint64_t gva) {
  const Mapping* const own = oldest(mappings_, sizes_, number_of(context), gva, nullptr);
  const unsigned global = number_of(global_of(context));
  return any_global_ ? oldest(mappings_, sizes_, global, gva, own) : own;
}

void CombinedCache::insert(const Context& context, std::uint64_t gva, bool global,
                           const Mapping& mapping) {
  const unsigned number = number_of(global ? global_of(context) : context);
  Mapping& m =
      mappings_.insert(page_key(number, gva, mapping.level), group_of(gva, mapping.guest_shift));
  guest_shifts_ |= std::uint64_t{1} << mapping.guest_shift;
  sizes_.add(mapping.level);
  any_global_ |= global;
  m = mapping;
  m.age = ++age_;
}

const Structure* CombinedCache::find_structure(const Context& context, std::uint64_t gva,
                                               unsigned level, unsigned shift) {
  return structures_.find(key_of(number_of(context), gva, level, shift));
}

void CombinedCache::insert_structure(const Context& context, std::uint64_t gva, unsigned level,
                                     unsigned shift, const Structure& structure) {
  structures_.insert(key_of(number_of(context), gva, level, shift)) = structure;
}

const Mapping* CombinedCache::find_gpa(const Context& context, std::uint64_t gpa) {
  return oldest(gpa_mappings_, gpa_sizes_, number_of(context), gpa, nullptr);
}

void CombinedCache::insert_gpa(const Context& context, std::uint64_t gpa, const Mapping& mapping) {
  Mapping& m = gpa_mappings_.insert(page_key(number_of(context), gpa, mapping.level));
  gpa_sizes_.add(mapping.level);
  m = mapping;
  m.age = ++age_;
}

Found CombinedCache::find_gpa_structure(const Context& context, std::uint64_t gpa, unsigned top) {
  const unsigned number = number_of(context);
  for (unsigned level = 2; level <= top; ++level) {
    const Structure* const s = gpa_structures_.find(page_key(number, gpa, level));
    if (s) return {s, level};
  }
  return {};
}

void CombinedCache::insert_gpa_structure(const Context& context, std::uint64_t gpa, unsigned level,
                                         const Structure& structure) {
  gpa_structures_.insert(page_key(number_of(context), gpa, level)) = structure;
  gpa_structure_levels_.add(level);
}

bool CombinedCache::covers(std::uint64_t key, const Mapping& mapping, std::uint64_t gva,
                           unsigned shift) {
  const std::uint64_t address = gva & kAddress;
  const std::uint64_t first = key >> 18 << shift_of(mapping.level);
  const auto same = [=](unsigned bits) { return first >> bits == address >> bits; };
  return same(shift) || same(shift_of(mapping.level)) || same(mapping.guest_shift);
}

void CombinedCache::drop_structure(const Context& context, std::uint64_t gva, unsigned level,
                                   unsigned shift) {
  structures_.erase(key_of(number_of(context), gva, level, shift));
}

void CombinedCache::drop_gpa(const Context& context, std::uint64_t gpa) {
  const unsigned number = number_of(context);
  gpa_sizes_.for_each([&](unsigned level) { gpa_mappings_.erase(page_key(number, gpa, level)); });
  gpa_structure_levels_.for_each(
      [&](unsigned level) { gpa_structures_.erase(page_key(number, gpa, level)); });
}

bool CombinedCache::reaches(std::uint64_t pfn, std::uint64_t count) const {
  const std::uint64_t end = pfn + count;
  const auto page = [=](std::uint64_t, const Mapping& m) {
    const std::uint64_t first = m.base >> 12;
    return first < end && pfn < first + (std::uint64_t{1} << (9 * (m.level - 1)));
  };
  const auto table = [=](std::uint64_t, const Structure& s) {
    return s.table >> 12 >= pfn && s.table >> 12 < end;
  };
  return mappings_.any(page) || gpa_mappings_.any(page) || structures_.any(table) ||
         gpa_structures_.any(table);
}

}  // namespace twinwalk::processor
