#include "harness/processor/processor.h"

#include <atomic>

#include "harness/processor/touch_memory.h"

namespace twinwalk::processor {
namespace {

// Page-fault error code and paging-structure entries, SDM 3A chapter "Paging": this file's own
// words.
constexpr std::uint32_t kEcPresent = 1, kEcWrite = 2, kEcUser = 4, kEcReserved = 8, kEcFetch = 16,
                        kEcKey = 32;
constexpr unsigned kBitPresent = 0, kBitWrite = 1, kBitUser = 2, kBitAccessed = 5, kBitDirty = 6,
                   kBitSize = 7, kBitGlobal = 8, kBitXd = 63;
constexpr unsigned kPaeLevels = 3;  // the third are the PDPTE registers

constexpr bool has(std::uint64_t entry, unsigned n) { return entry >> n & 1; }
constexpr unsigned shift_of(unsigned level) { return 12 + 9 * (level - 1); }
constexpr std::uint64_t table_of(std::uint64_t entry) { return entry & 0x000f'ffff'ffff'f000; }
constexpr std::uint64_t in_page(std::uint64_t gva, unsigned level) {
  return gva & ((std::uint64_t{1} << shift_of(level)) - 1);
}
constexpr std::uint64_t page_of(std::uint64_t entry, unsigned level) {
  return table_of(entry) & ~in_page(~std::uint64_t{0}, level);
}
constexpr bool canonical(std::uint64_t gva, unsigned bits) {
  const unsigned rest = 64 - bits;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(gva << rest) >> rest) == gva;
}

constexpr std::uint64_t kAccessed = std::uint64_t{1} << kBitAccessed,
                        kDirty = std::uint64_t{1} << kBitDirty;

// Sees to it that `flags` are set in the entry, by a locked update if it still is `seen`; false: it
// changed, look again.
bool set_flags(std::uint64_t* entry, std::uint64_t seen, std::uint64_t flags) {
  return (seen & flags) == flags ||
         std::atomic_ref<std::uint64_t>(*entry).compare_exchange_strong(seen, seen | flags);
}

}  // namespace

struct Processor::Need {
  bool write, fetch, user;
  std::uint32_t code;  // the error code's W, U, I

  explicit Need(const Controls& c, const Access& a)
      : write(a.kind == AccessKind::kWrite || a.kind == AccessKind::kRmw),
        fetch(a.kind == AccessKind::kFetch),
        user(c.cpl == 3 && !a.implicit),
        code((write ? kEcWrite : 0) | (user ? kEcUser : 0) | (fetch ? kEcFetch : 0)),
        smap_applies(c.smap && !fetch && !user && (a.implicit || !c.ac)) {}

  bool smap_applies;

  // SDM 3A §"Access Rights" and §"Protection Keys". The error code of a violation, 0 if the access
  // may go on.
  std::uint32_t violation(const Controls& c, const Rights& rights, std::uint8_t key) const {
    bool bad = user && !rights.user;
    if (fetch) {
      bad |= !rights.execute || (!user && rights.user && c.smep);
    } else {
      bad |= (write && !rights.write) || (smap_applies && rights.user);
    }
    bool key_bad = false;
    if (c.pke && !fetch && rights.user) {
      const unsigned pair = c.pkru >> (2 * key) & 3;  // bit 0 access disable, bit 1 write disable
      key_bad = (pair & 1) || (write && (pair & 2));
    }
    return bad || key_bad ? kEcPresent | code | (key_bad ? kEcKey : 0) : 0;
  }
};

void Processor::reset(const Machine& machine) {
  policy_ = machine.tlb;
  cache_.reset(policy_ == TlbPolicy::kSmall ? machine.tlb_entries : TranslationCache::kCapacity);
  for (Pdptes& p : pdptes_) p = {};
  above_maxphyaddr_ = 0x000f'ffff'ffff'ffff & ~((std::uint64_t{1} << machine.host_maxphyaddr) - 1);
  amd_ = machine.vendor == Vendor::kAmd;
}

// SDM 3A §"4-Level Paging and 5-Level Paging" and §"PAE Paging", the reserved bits of each entry;
// APM 2 §"Long-Mode Page Translation".
bool Processor::reserved(std::uint64_t entry, unsigned level, unsigned levels) const {
  if (entry & above_maxphyaddr_) return true;
  if (levels == kPaeLevels) {
    // Bits 62:52 are neither ignored nor a key.
    if (entry << 1 >> 53) return true;
  } else if (level >= 4) {
    return has(entry, kBitSize) || (amd_ && has(entry, kBitGlobal));
  }
  if (level > 1 && has(entry, kBitSize)) {  // bit 12 is PAT
    return entry & ((std::uint64_t{1} << shift_of(level)) - (std::uint64_t{1} << 13));
  }
  return false;
}

// SDM 3A §"PDPTE Registers", 3C §"Loading Page-Directory-Pointer-Table Entries": all four, or the
// entry fails.
bool Processor::load_pdptes(const Controls& controls) {
  Pdptes& p = pdptes_[controls.tag.vcpu];
  if (p.loaded && p.root == controls.root && policy_ != TlbPolicy::kFresh) return true;
  p.loaded = false;
  // Its CR3 has 32 bits. SDM 3A §"Control Registers", CR3.
  if (controls.root >> 32) return false;
  constexpr std::uint64_t kReserved = 0xfff0'0000'0000'01e6;  // 63:52, 8:5, 2:1
  for (unsigned i = 0; i < 4; ++i) {
    const std::uint64_t* const slot = memory_.table_entry(controls.root + i * 8);
    p.entry[i] = slot ? *slot : 0;
    if (!has(p.entry[i], kBitPresent)) continue;
    if (p.entry[i] & (kReserved | above_maxphyaddr_)) return false;
    memory_.note_reached(table_of(p.entry[i]) >> 12);
  }
  p.loaded = true;
  p.root = controls.root;
  return true;
}

bool Processor::pdptes_reach(std::uint64_t pfn, std::uint64_t count) const {
  for (const Pdptes& p : pdptes_) {
    if (!p.loaded) continue;
    for (const std::uint64_t entry : p.entry) {
      if (has(entry, kBitPresent) && (table_of(entry) >> 12) - pfn < count) return true;
    }
  }
  return false;
}

bool Processor::walk(const Controls& controls, const Need& need, std::uint64_t gva,
                     std::uint64_t& hpa, std::uint32_t& error_code) {
  const bool pae = controls.levels == kPaeLevels;
  unsigned level = pae ? 2 : controls.levels;
  std::uint64_t table = controls.root;
  Rights rights;
  unsigned cached_level = level;
  if (const StructureEntry* e = cache_.find_structure(controls.tag, gva, cached_level)) {
    level = cached_level - 1;
    table = e->table;
    rights = e->rights;
  } else if (pae) {
    const std::uint64_t pdpte = pdptes_[controls.tag.vcpu].entry[gva >> 30 & 3];
    if (!has(pdpte, kBitPresent)) {
      error_code = need.code;
      return false;
    }
    table = table_of(pdpte);
  }
  while (true) {
    std::uint64_t* const slot = memory_.table_entry(table + (gva >> shift_of(level) & 511) * 8);
    const std::uint64_t entry = slot ? std::atomic_ref<std::uint64_t>(*slot).load() : 0;
    if (!has(entry, kBitPresent)) {
      error_code = need.code;
      return false;
    }
    if (reserved(entry, level, controls.levels)) {
      error_code = need.code | kEcPresent | kEcReserved;
      return false;
    }
    Rights here = rights;
    here.write &= has(entry, kBitWrite);
    here.user &= has(entry, kBitUser);
    here.execute &= !has(entry, kBitXd);
    const bool leaf = level == 1 || (level < 4 && has(entry, kBitSize));
    if (!leaf) {
      if (!set_flags(slot, entry, kAccessed)) continue;
      table = table_of(entry);
      rights = here;
      memory_.note_reached(table >> 12);
      cache_.insert_structure(controls.tag, gva, level, {table, here});
      --level;
      continue;
    }
    const auto key = static_cast<std::uint8_t>(pae ? 0 : entry >> 59 & 15);
    error_code = need.violation(controls, here, key);
    if (error_code) return false;
    if (!set_flags(slot, entry, need.write ? kAccessed | kDirty : kAccessed)) continue;
    const bool dirty = need.write || has(entry, kBitDirty);
    const std::uint64_t frame = page_of(entry, level);
    memory_.note_reached(frame >> 12);
    const auto page_size = static_cast<std::uint8_t>(level);
    cache_.insert(controls.tag, gva, has(entry, kBitGlobal),
                  {frame, 0, page_size, key, dirty, here});
    hpa = frame | in_page(gva, level);
    return true;
  }
}

bool Processor::translate(const Controls& controls, const Need& need, std::uint64_t gva,
                          std::uint64_t& hpa, std::uint32_t& error_code) {
  const TlbEntry* const e = cache_.find(controls.tag, gva);
  error_code = e ? need.violation(controls, e->rights, e->key) : 0;  // before D is looked at
  if (error_code == 0) [[likely]] {
    if (e && (e->dirty || !need.write)) [[likely]] {
      hpa = e->base | in_page(gva, e->level);
      return true;
    }
    if (walk(controls, need, gva, hpa, error_code)) return true;
  }
  cache_.drop_faulting(controls.tag, gva);
  return false;
}

void Processor::access(const Controls& controls, const Access& access, Result& result) {
  if (policy_ == TlbPolicy::kFresh) cache_.clear();
  if (controls.levels != kPaeLevels) {
    pdptes_[controls.tag.vcpu].loaded = false;
  } else if (!load_pdptes(controls)) {
    result.kind = Result::Kind::kEntryFailed;
    return;
  }
  const bool fetch = access.kind == AccessKind::kFetch;
  const Need need(controls, access);
  // What wraps at 4G goes on at 0: SDM 1 §"Specifying a Segment Selector and Offset" leaves it
  // open.
  const bool legacy = controls.gva_bits == 32;
  const std::uint64_t linear = legacy ? 0xffff'ffff : ~std::uint64_t{0};
  const std::uint64_t first = access.gva & linear;
  const std::uint64_t last = (first + (fetch ? 0u : access.size - 1u)) & linear;
  result.parts = (first ^ last) >> 12 ? 2 : 1;
  if (!legacy && (!canonical(first, controls.gva_bits) || !canonical(last, controls.gva_bits))) {
    result.kind = Result::Kind::kGeneralProtection;
    return;
  }
  for (unsigned part = 0; part < result.parts; ++part) {
    const std::uint64_t gva = part == 0 ? first : last & ~std::uint64_t{4095};
    if (!translate(controls, need, gva, result.hpa[part], result.error_code)) {
      result.kind = Result::Kind::kPageFault;
      result.fault_gva = gva;
      return;
    }
  }
  result.kind = Result::Kind::kDone;
  const unsigned to_end = static_cast<unsigned>(4096 - (access.gva & 4095));
  touch_memory(memory_, access, result.parts == 1 ? access.size : to_end, result);
}

void Processor::flush(const Flush& flush) {
  // INVLPG leaves the PDPTE registers alone.
  if (flush.kind != Flush::Kind::kAddress) {
    for (unsigned v = 0; v < kMaxVcpus; ++v) {
      if (flush.vcpu == TranslationCache::kEveryVcpu || flush.vcpu == v) pdptes_[v].loaded = false;
    }
  }
  if (cache_.empty()) return;
  switch (flush.kind) {
    case Flush::Kind::kAll:
      cache_.drop_vcpu(flush.vcpu);
      break;
    case Flush::Kind::kPcid:
      cache_.drop_pcid(flush.vcpu, flush.pcid);
      break;
    case Flush::Kind::kAddress:
      cache_.drop_address(flush.vcpu, flush.pcid, flush.gva);
      break;
  }
}

}  // namespace twinwalk::processor
