#ifndef TWINWALK_HARNESS_PROCESSOR_TRANSLATION_CACHE_H_
#define TWINWALK_HARNESS_PROCESSOR_TRANSLATION_CACHE_H_

// What a processor may remember of the tables: TLB entries and paging-structure entries (PML5E,
// PML4E, PDPTE and PDE caches), tagged by vCPU (its VPID) and PCID, never by root and never by
// paging mode: a change of either drops nothing by itself. SDM 3A §"Caching Translation
// Information".

#include <cstdint>

#include "harness/processor/aged_table.h"

namespace twinwalk::processor {

// The rights on the way to a page: R/W and U/S ANDed, XD ORed. Not controls: those act at the
// access.
struct Rights {
  bool write = true, user = true, execute = true;
};

// Which vCPU's cached translations, under which PCID.
struct Tag {
  std::uint8_t vcpu = 0;
  std::uint16_t pcid = 0;
};

struct TlbEntry {
  std::uint64_t base = 0;  // hpa of the page
  std::uint32_t age = 0;   // grows with each insertion
  std::uint8_t level = 1;  // page size: 1 = 4K, 2 = 2M, 3 = 1G
  std::uint8_t key = 0;    // protection key
  bool dirty = false;      // the D bit was set when this was cached
  Rights rights;
};

struct StructureEntry {
  std::uint64_t table = 0;  // hpa of the table that it points to, whose entries have `level - 1`
  Rights rights;
};

class TranslationCache {
 public:
  static constexpr unsigned kCapacity = 1024;

  TranslationCache() : tlb_(kCapacity), structures_(kCapacity) {}

  // Empty; at most `limit` TLB entries, oldest out first.
  void reset(unsigned limit) {
    clear();
    tlb_.set_limit(limit);
    structures_.set_limit(limit);
  }
  void clear() {
    tlb_.clear();
    structures_.clear();
    large_ = global_ = false;
    age_ = 0;
  }
  bool empty() const { return tlb_.size() == 0 && structures_.size() == 0; }

  // The oldest entry for the address, or null.
  const TlbEntry* find(Tag tag, std::uint64_t gva) {
    TlbEntry* entry = tlb_.find(page_key(tag, gva, 1, false));
    if (large_ || global_) [[unlikely]] {
      return find_any(entry, tag, gva);
    }
    return entry;
  }
  void insert(Tag tag, std::uint64_t gva, bool global, const TlbEntry& entry);

  // The deepest paging-structure entry on the way to the address that caches an entry at most at
  // `level` (2 = PDE, 3 = PDPTE, 4 = PML4E, 5 = PML5E), and its level; null if there is none.
  const StructureEntry* find_structure(Tag tag, std::uint64_t gva, unsigned& level);
  void insert_structure(Tag tag, std::uint64_t gva, unsigned level, const StructureEntry& entry);

  // ---- invalidation. `kEveryVcpu` for all of them.
  static constexpr std::uint8_t kEveryVcpu = 0xff;
  void drop_vcpu(std::uint8_t vcpu);
  void drop_pcid(std::uint8_t vcpu, std::uint16_t pcid);  // keeps global entries
  // INVLPG: the page number, its global entries too, and every paging-structure entry of the PCID.
  void drop_address(std::uint8_t vcpu, std::uint16_t pcid, std::uint64_t gva);
  // #PF: the page number, and the paging-structure entries usable for that address, in the current
  // PCID.
  void drop_faulting(Tag tag, std::uint64_t gva);

  bool reaches(std::uint64_t pfn, std::uint64_t count) const;

 private:
  // Keys: page number at the entry's size, level, vCPU, global, PCID (0 if global).
  static std::uint64_t page_key(Tag tag, std::uint64_t gva, unsigned level, bool global) {
    const std::uint64_t number = (gva & 0x01ff'ffff'ffff'ffff) >> (12 + 9 * (level - 1));
    return number << 18 | level << 15 | std::uint64_t{tag.vcpu} << 13 |
           (global ? 0x1000u : tag.pcid & 0xfffu);
  }
  static std::uint8_t vcpu_of(std::uint64_t key) { return key >> 13 & 3; }
  static bool is_global(std::uint64_t key) { return key & 0x1000; }
  static std::uint16_t pcid_of(std::uint64_t key) { return key & 0xfff; }
  static bool of_vcpu(std::uint64_t key, std::uint8_t vcpu) {
    return vcpu == kEveryVcpu || vcpu_of(key) == vcpu;
  }

  const TlbEntry* find_any(TlbEntry* small, Tag tag, std::uint64_t gva);
  void drop_page(Tag tag, std::uint64_t gva);

  AgedTable<TlbEntry> tlb_;
  AgedTable<StructureEntry> structures_;
  std::uint32_t age_ = 0;
  bool large_ = false, global_ = false;  // such entries may be there
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_TRANSLATION_CACHE_H_
