#include "harness/processor/translation_cache.h"

namespace twinwalk::processor {
namespace {

constexpr unsigned kVcpus = 4, kPageSizes = 3, kTopLevel = 5;

}  // namespace

const TlbEntry* TranslationCache::find_any(TlbEntry* small, Tag tag, std::uint64_t gva) {
  const TlbEntry* best = small;
  const auto consider = [&best](const TlbEntry* e) {
    if (e && (!best || e->age < best->age)) best = e;
  };
  for (unsigned level = 1; level <= kPageSizes; ++level) {
    if (level > 1) consider(tlb_.find(page_key(tag, gva, level, false)));
    if (global_) consider(tlb_.find(page_key(tag, gva, level, true)));
    if (!large_) break;
  }
  return best;
}

void TranslationCache::insert(Tag tag, std::uint64_t gva, bool global, const TlbEntry& entry) {
  TlbEntry& e = tlb_.insert(page_key(tag, gva, entry.level, global));
  e = entry;
  e.age = ++age_;
  large_ |= entry.level > 1;
  global_ |= global;
}

const StructureEntry* TranslationCache::find_structure(Tag tag, std::uint64_t gva,
                                                       unsigned& level) {
  const unsigned top = level;
  for (level = 2; level <= top; ++level) {
    if (const StructureEntry* e = structures_.find(page_key(tag, gva, level, false))) return e;
  }
  return nullptr;
}

void TranslationCache::insert_structure(Tag tag, std::uint64_t gva, unsigned level,
                                        const StructureEntry& entry) {
  structures_.insert(page_key(tag, gva, level, false)) = entry;
}

void TranslationCache::drop_vcpu(std::uint8_t vcpu) {
  if (vcpu == kEveryVcpu) return clear();
  tlb_.erase_if([vcpu](std::uint64_t key, const TlbEntry&) { return vcpu_of(key) == vcpu; });
  structures_.erase_if(
      [vcpu](std::uint64_t key, const StructureEntry&) { return vcpu_of(key) == vcpu; });
}

void TranslationCache::drop_pcid(std::uint8_t vcpu, std::uint16_t pcid) {
  tlb_.erase_if([=](std::uint64_t key, const TlbEntry&) {
    return of_vcpu(key, vcpu) && !is_global(key) && pcid_of(key) == pcid;
  });
  structures_.erase_if([=](std::uint64_t key, const StructureEntry&) {
    return of_vcpu(key, vcpu) && pcid_of(key) == pcid;
  });
}

void TranslationCache::drop_page(Tag tag, std::uint64_t gva) {
  for (unsigned level = 1; level <= kPageSizes; ++level) {
    tlb_.erase(page_key(tag, gva, level, false));
    if (global_) tlb_.erase(page_key(tag, gva, level, true));
    if (!large_) break;
  }
}

void TranslationCache::drop_address(std::uint8_t vcpu, std::uint16_t pcid, std::uint64_t gva) {
  for (std::uint8_t v = 0; v < kVcpus; ++v) {
    if (vcpu == kEveryVcpu || v == vcpu) drop_page({v, pcid}, gva);
  }
  structures_.erase_if([=](std::uint64_t key, const StructureEntry&) {
    return of_vcpu(key, vcpu) && pcid_of(key) == pcid;
  });
}

void TranslationCache::drop_faulting(Tag tag, std::uint64_t gva) {
  drop_page(tag, gva);
  for (unsigned level = 2; level <= kTopLevel; ++level) {
    structures_.erase(page_key(tag, gva, level, false));
  }
}

bool TranslationCache::reaches(std::uint64_t pfn, std::uint64_t count) const {
  const std::uint64_t end = pfn + count;
  return tlb_.any([=](std::uint64_t, const TlbEntry& e) {
    const std::uint64_t first = e.base >> 12;
    return first < end && pfn < first + (std::uint64_t{1} << (9 * (e.level - 1)));
  }) || structures_.any([=](std::uint64_t, const StructureEntry& e) {
    return e.table >> 12 >= pfn && e.table >> 12 < end;
  });
}

}  // namespace twinwalk::processor
