#ifndef TWINWALK_ORACLE_WALK_H_
#define TWINWALK_ORACLE_WALK_H_

// The fresh walk: what the tables in memory (and the PDPTE registers) say now, and what an access
// with given controls makes of it. SDM 3A, chapter "Paging".

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"
#include "oracle/image.h"
#include "oracle/memslots.h"
#include "oracle/paging.h"

namespace twinwalk::oracle {

// Rights of a translation: AND of U/S and R/W, OR of XD, and the leaf's key.
struct Rights {
  std::uint64_t every = ~std::uint64_t{0};  // AND of the entries
  std::uint64_t any = 0;                    // OR of the entries
  std::uint8_t key = 0;

  void take(std::uint64_t entry) { every &= entry, any |= entry; }
  bool writable() const { return every & pte::kW; }
  bool user() const { return every & pte::kU; }
  bool executable() const { return !(any & pte::kXd); }
};

// The registers that decide rights, at the access. What is off in its paging mode is off here: SMEP
// and SMAP act with paging on, keys in long mode, and XD exists with CR4.PAE=1 only.
struct Controls {
  bool wp = false, smep = false, smap = false, pke = false, nxe = false, ac = false;
  bool user_mode = false;  // CPL 3 and not implicit
  bool implicit = false;
  std::uint32_t pkru = 0;
};
inline Controls controls_of(const Registers& r, bool implicit) {
  Controls c;
  const bool paging = r.cr0 & cr0::kPg, pae = r.cr4 & cr4::kPae;
  c.wp = r.cr0 & cr0::kWp;
  c.smep = paging && (r.cr4 & cr4::kSmep);
  c.smap = paging && (r.cr4 & cr4::kSmap);
  c.pke = paging && (r.efer & efer::kLme) && (r.cr4 & cr4::kPke);
  c.nxe = pae && (r.efer & efer::kNxe);
  c.ac = r.ac;
  c.implicit = implicit;
  c.user_mode = r.cpl == 3 && !implicit;
  c.pkru = r.pkru;
  return c;
}

constexpr bool stores(AccessKind kind) {
  return kind == AccessKind::kWrite || kind == AccessKind::kRmw;
}

// Error-code bits that say what was tried: W, U, I. SDM 3A §"Page-Fault Exceptions".
std::uint32_t attempt_bits(const Controls& controls, AccessKind kind);

// What an access asks of the entries used, keys apart. SDM 3A §"Determination of Access Rights".
struct Needs {
  std::uint64_t all = 0;      // bits that every entry must have
  std::uint64_t not_all = 0;  // bits that some entry must lack
  std::uint64_t none = 0;     // bits that no entry may have
  bool keys = false;          // PKRU has a say in it

  bool met_by(const Rights& rights) const {
    return ((~rights.every & all) | (rights.every & not_all) | (rights.any & none)) == 0;
  }
};
inline Needs needs_of(const Controls& c, AccessKind kind) {
  const bool fetch = kind == AccessKind::kFetch;
  Needs needs;
  if (stores(kind) && (c.user_mode || c.wp)) needs.all |= pte::kW;
  if (c.user_mode) {
    needs.all |= pte::kU;
  } else if (fetch ? c.smep : c.smap && (c.implicit || !c.ac)) {
    // SMAP: explicit accesses pass with EFLAGS.AC=1, implicit ones never.
    needs.not_all |= pte::kU;
  }
  if (fetch && c.nxe) needs.none |= pte::kXd;
  needs.keys = c.pke && !fetch;
  return needs;
}

// Whether a translation with `rights` lets the access pass; if not, the error code. SDM 3A
// §"Determination of Access Rights" and §"Protection Keys".
struct RightsCheck {
  bool pass = true;
  std::uint32_t error_code = 0;
};
RightsCheck check_rights(const Controls& controls, AccessKind kind, const Rights& rights);

enum class Stop : std::uint8_t {
  kLeaf,        // a page is mapped
  kNotPresent,  // P=0
  kReserved,    // P=1 and a reserved bit
  kNoMemory,    // the entry itself has no memslot behind it
};

// The entries of one walk, root first.
struct Walk {
  Stop stop = Stop::kNotPresent;
  std::uint8_t count = 0;  // entries read
  std::uint8_t level = 0;  // at which it stopped
  std::uint8_t plain = 0;  // of the entries the first so many have no rights, A and D
  // PAE: the PDPTE register used differs from the PDPTE in memory, so that a walk of memory, as a
  // subject shows it, is another one.
  bool apart = false;
  Rights rights;          // of the entries used; complete with kLeaf only
  std::uint64_t gpa = 0;  // kLeaf: of the byte
  // The first `count` mean something; left unset otherwise, a walk is the hot path.
  std::uint64_t entry[kMaxLevels];
  std::uint64_t entry_gpa[kMaxLevels];
};

// The memory that a walk reads: one address space.
class GuestMemory {
 public:
  GuestMemory(unsigned space, const Memslots& slots, const Image& image)
      : space_(space), slots_(slots), image_(image) {}
  // Names gpa's page among those of all address spaces: its gpa, and in bit 0 the space.
  std::uint64_t page_of(std::uint64_t gpa) const { return (gpa & ~(kPageBytes - 1)) | space_; }
  // False: no memslot. `gpa` is 8-aligned.
  bool read(std::uint64_t gpa, std::uint64_t& word) const {
    const Memslot* slot = slots_.find(gpa);
    if (slot == nullptr) return false;
    word = image_.load(Memslots::hva_of(*slot, gpa));
    return true;
  }
  const Memslots& slots() const { return slots_; }
  const Image& image() const { return image_; }

 private:
  const unsigned space_;
  const Memslots& slots_;
  const Image& image_;
};

// A memslot as a walk needs it.
struct Window {
  std::uint64_t gpa = 0, bytes = 0;
  std::uint64_t to_offset = 0;  // from a gpa to what Image::load_at takes

  explicit Window(const Memslot* slot) {
    if (slot != nullptr) *this = Window(*slot);
  }
  explicit Window(const Memslot& slot)
      : gpa(slot.gpa), bytes(slot.bytes), to_offset(slot.hva - slot.gpa - kHvaBase) {}
  bool holds(std::uint64_t at) const { return at - gpa < bytes; }
};

// Where a walk begins. `pdptes`: PAE's registers, or nullptr to read them from memory.
struct WalkRoot {
  std::uint64_t cr3 = 0;  // as the register holds it
  const PdpteRegisters* pdptes = nullptr;
};

// The walk below the tables that are not in memory: from the table at `table`, whose entries are
// number `n` of the walk, in the mode of one row of kModes, known when it is compiled: this is
// where the time goes.
template <unsigned kRow>
[[gnu::always_inline]] inline void walk_from(const GuestMemory& memory, const EntryRules& rules,
                                             std::uint64_t table, unsigned n, std::uint64_t gva,
                                             Walk& out) {
  constexpr const PagingMode& kMode = kModes[kRow];
  constexpr std::uint64_t kIndexMask =
      ((std::uint64_t{1} << kMode.index_bits) - 1) * kMode.entry_bytes;
  Rights rights;
  Window window(memory.slots().find(table));
  Stop stop = Stop::kNoMemory;
  unsigned level = kMode.levels - n;
#pragma GCC unroll 8
  for (; n < kMode.levels; ++n, --level) {
    const unsigned shift = kMode.shift(kMode.levels - n);
    const std::uint64_t at = table + ((gva >> shift) * kMode.entry_bytes & kIndexMask);
    // Tables mostly lie in one slot: looked up again only where they do not.
    if (!window.holds(at)) [[unlikely]] {
      window = Window(memory.slots().find(at));
      if (!window.holds(at)) break;
    }
    std::uint64_t entry;
    if constexpr (kMode.entry_bytes == 4) {
      entry = memory.image().load_at((at & ~std::uint64_t{7}) + window.to_offset) >> 8 * (at & 4) &
              kMode.entry_mask();
    } else {
      entry = memory.image().load_at(at + window.to_offset);
    }
    out.entry[n] = entry;
    out.entry_gpa[n] = at;
    const bool leaf = kMode.is_leaf(entry, kMode.levels - n);
    const std::uint64_t reserved = (leaf ? rules.leaf : rules.table)[kMode.levels - n];
    if ((entry & (reserved | pte::kP)) != pte::kP) [[unlikely]] {
      stop = entry & pte::kP ? Stop::kReserved : Stop::kNotPresent;
      ++n;
      break;
    }
    if (n >= kMode.plain_entries) rights.take(entry);
    table = entry & pte::kAddressMask;
    if (leaf) {
      const std::uint64_t offset = (std::uint64_t{1} << shift) - 1;
      rights.key = static_cast<std::uint8_t>((entry & pte::kPkeyMask) >> pte::kPkeyShift);
      if constexpr (kMode.entry_bytes == 4) table = kMode.frame(entry, kMode.levels - n, true);
      out.gpa = (table & ~offset) | (gva & offset);
      stop = Stop::kLeaf;
      ++n;
      break;
    }
  }
  out.stop = stop;
  out.level = static_cast<std::uint8_t>(level);
  out.count = static_cast<std::uint8_t>(n);
  out.plain = kMode.plain_entries;
  out.apart = false;
  out.rights = rights;
}

// The modes that are not on the hot path.
void walk_elsewhere(const GuestMemory& memory, const EntryRules& rules, const WalkRoot& root,
                    std::uint64_t gva, Walk& out);

// Precondition: gva is what linear() gives, and canonical.
[[gnu::always_inline]] inline void walk(const GuestMemory& memory, const EntryRules& rules,
                                        const WalkRoot& root, std::uint64_t gva, Walk& out) {
  constexpr const PagingMode& kHot = kModes[kRow4Level];
  if (rules.mode == &kHot) [[likely]] {
    walk_from<kRow4Level>(memory, rules, root.cr3 & kHot.root_mask, 0, gva, out);
  } else {
    walk_elsewhere(memory, rules, root, gva, out);
  }
}

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_WALK_H_
