#ifndef TWINWALK_HARNESS_PROCESSOR_COMBINED_CACHE_H_
#define TWINWALK_HARNESS_PROCESSOR_COMBINED_CACHE_H_

// What a processor with two dimensions may remember. SDM 3C §"Caching Translation Information":
//
//   linear          gva -> hpa          tagged VPID, PCID            no second dimension in use
//   combined        gva -> hpa          tagged VPID, PCID, EP4TA     both walks in one
//   guest-physical  gpa -> hpa          tagged EP4TA                 the second walk alone
//
// each as translations and as paging-structure entries. AMD tags all of them by ASID. Caches are a
// vCPU's own. Roots and modes are no tags: a change of either drops nothing by itself.

#include <bit>
#include <cstdint>
#include <vector>

#include "harness/processor/aged_table.h"
#include "harness/processor/nested_format.h"
#include "harness/processor/translation_cache.h"

namespace twinwalk::processor {

// Under what a mapping was cached.
struct Context {
  static constexpr std::uint16_t kGlobal = 0x1000;  // as PCID: an entry that serves all of them
  static constexpr std::uint64_t kNoEp4ta = ~std::uint64_t{0};
  enum class Kind : std::uint8_t { kOfLinear, kGuestPhysical };

  Kind kind = Kind::kOfLinear;
  std::uint8_t vcpu = 0;
  std::uint16_t vpid = 0;  // or ASID; of Intel's guest-physical mappings always 0
  std::uint16_t pcid = 0;
  std::uint64_t ep4ta = kNoEp4ta;  // linear mappings have none
  friend bool operator==(const Context& a, const Context& b) {
    return a.ep4ta == b.ep4ta && a.tags() == b.tags();
  }

  bool is_linear() const { return kind == Kind::kOfLinear && ep4ta == kNoEp4ta; }

 private:
  std::uint64_t tags() const {
    return static_cast<std::uint64_t>(kind) << 40 | std::uint64_t{vcpu} << 32 |
           std::uint32_t{vpid} << 16 | pcid;
  }
};

struct Mapping {
  std::uint64_t base = 0;  // hpa of the page
  std::uint64_t gpa = 0;   // of the page, where that is not the key
  std::uint32_t age = 0;   // grows with each insertion
  std::uint8_t level = 1;  // page size: 1 = 4K, 2 = 2M, 3 = 1G
  // log2 of the guest's own page, of which this may be a fragment, and never more.
  std::uint8_t guest_shift = 12;
  std::uint8_t key = 0;  // protection key
  // Their D bits were set when this was cached, or are not kept.
  bool guest_dirty = false, nested_dirty = false;
  Rights rights;
  NestedRights nested;
};

struct Structure {
  std::uint64_t table = 0;  // hpa of the table that it points to, whose entries have `level - 1`
  std::uint64_t gpa = 0;    // of that table, where the guest's walk knows it by one
  Rights rights;
  NestedRights nested;  // guest-physical: on the way; combined: to the table itself
};

// An address that is cached under a context, at most so far down.
struct Found {
  const Structure* structure = nullptr;
  unsigned level = 0;
};

class CombinedCache {
 public:
  static constexpr unsigned kCapacity = 1024;

  CombinedCache();
  // Empty; at most `limit` entries of each sort, oldest out first.
  void reset(unsigned limit);
  void clear();

  // ---- by linear address: `level` of a structure is that of the entry cached, `shift` the lowest
  // bit of the address that it translates.
  const Mapping* find(const Context& context, std::uint64_t gva);
  void insert(const Context& context, std::uint64_t gva, bool global, const Mapping& mapping);
  const Structure* find_structure(const Context& context, std::uint64_t gva, unsigned level,
                                  unsigned shift);
  void insert_structure(const Context& context, std::uint64_t gva, unsigned level, unsigned shift,
                        const Structure& structure);

  // ---- by guest-physical address, whose tables all have 512 entries.
  const Mapping* find_gpa(const Context& context, std::uint64_t gpa);
  void insert_gpa(const Context& context, std::uint64_t gpa, const Mapping& mapping);
  Found find_gpa_structure(const Context& context, std::uint64_t gpa, unsigned top);
  void insert_gpa_structure(const Context& context, std::uint64_t gpa, unsigned level,
                            const Structure& structure);

  // ---- invalidation
  // Everything whose context fulfils the predicate.
  template <class Predicate>
  void drop(Predicate predicate) {
    if (!choose(predicate)) return;
    const auto chosen = [this](std::uint64_t key, const auto&) { return is_chosen(key); };
    mappings_.erase_if(chosen);
    structures_.erase_if(chosen);
    gpa_mappings_.erase_if(chosen);
    gpa_structures_.erase_if(chosen);
  }
  // Of linear addresses: what covers any of the page of 2^shift bytes at `gva`, or is a fragment of
  // a page that does.
  template <class Predicate>
  void drop_page(Predicate predicate, std::uint64_t gva, unsigned shift) {
    if (!choose(predicate)) return;
    const auto goes = [=, this](std::uint64_t key, const Mapping& m) {
      return is_chosen(key) && covers(key, m, gva, shift);
    };
    // What covers any of it lies in a page of the guest's that does.
    if (guest_shifts_ & ((std::uint64_t{1} << shift) - 1)) return mappings_.erase_if(goes);
    for (std::uint64_t left = guest_shifts_; left; left &= left - 1)
      mappings_.erase_in_group_if(group_of(gva, static_cast<unsigned>(std::countr_zero(left))),
                                  goes);
  }
  template <class Predicate>
  void drop_structures(Predicate predicate) {
    if (!choose(predicate)) return;
    structures_.erase_if([this](std::uint64_t key, const Structure&) { return is_chosen(key); });
  }
  // Of those only what lies inside the page of 2^shift bytes at `gva`; `shift_of_level` as above.
  template <class Predicate, class ShiftOfLevel>
  void drop_structures_within(Predicate predicate, std::uint64_t gva, unsigned shift,
                              ShiftOfLevel shift_of_level) {
    if (!choose(predicate)) return;
    const std::uint64_t page = (gva & kAddress) >> shift;
    structures_.erase_if([=, this](std::uint64_t key, const Structure&) {
      const std::uint64_t first = key >> 18 << shift_of_level(static_cast<unsigned>(key >> 15 & 7));
      return is_chosen(key) && first >> shift == page;
    });
  }
  void drop_structure(const Context& context, std::uint64_t gva, unsigned level, unsigned shift);
  // The guest-physical mappings that would translate `gpa`.
  void drop_gpa(const Context& context, std::uint64_t gpa);

  bool reaches(std::uint64_t pfn, std::uint64_t count) const;

 private:
  // A set of levels.
  class Levels {
   public:
    void add(unsigned level) { set_ |= 1u << level; }
    // Calls f(level) for each, from the lowest up.
    template <class F>
    void for_each(F f) const {
      for (unsigned left = set_; left; left &= left - 1)
        f(static_cast<unsigned>(std::countr_zero(left)));
    }

   private:
    unsigned set_ = 0;
  };

  static constexpr std::uint64_t kAddress = 0x01ff'ffff'ffff'ffff;  // what tells addresses apart
  static constexpr unsigned kMostContexts = 1u << 9;  // of 2^14 that a key has room for

  // Keys: page number at the entry's size, level, number of the context.
  static std::uint64_t key_of(unsigned context, std::uint64_t address, unsigned level,
                              unsigned shift) {
    return (address & kAddress) >> shift << 18 | level << 15 | context << 1;
  }
  static constexpr unsigned shift_of(unsigned level) { return 12 + 9 * (level - 1); }
  static std::uint64_t page_key(unsigned context, std::uint64_t address, unsigned level) {
    return key_of(context, address, level, shift_of(level));
  }
  // Mappings by linear address are grouped by the page of the guest's that they are, or are of.
  static std::uint64_t group_of(std::uint64_t gva, unsigned guest_shift) {
    return (gva & kAddress) >> guest_shift << 6 | guest_shift;
  }
  static unsigned context_of(std::uint64_t key) { return key >> 1 & (kMostContexts - 1); }
  static bool covers(std::uint64_t key, const Mapping& mapping, std::uint64_t gva, unsigned shift);

  unsigned number_of(const Context& context);
  unsigned seek_number(const Context& context);
  template <class Table>
  static const Mapping* oldest(Table& table, Levels sizes, unsigned context, std::uint64_t address,
                               const Mapping* best);
  template <class Predicate>
  bool choose(Predicate predicate) {
    bool any = false;
    for (std::size_t n = 0; n < contexts_.size(); ++n)
      any |= (chosen_[n] = predicate(contexts_[n]));
    return any;
  }
  bool is_chosen(std::uint64_t key) const { return chosen_[context_of(key)]; }

  AgedTable<Mapping, Groups::kKept> mappings_;
  AgedTable<Mapping> gpa_mappings_;
  AgedTable<Structure> structures_, gpa_structures_;
  // What was inserted since all was dropped: nothing else need be looked for.
  std::uint64_t guest_shifts_ = 0;  // of mappings_, a bit each
  Levels sizes_, gpa_sizes_, gpa_structure_levels_;
  bool any_global_ = false;
  std::vector<Context> contexts_;  // by number
  unsigned recent_[3] = {};        // numbers: linear, global, guest-physical
  std::vector<char> chosen_;
  std::uint32_t age_ = 0;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_COMBINED_CACHE_H_
