#ifndef TWINWALK_ORACLE_WALK_H_
#define TWINWALK_ORACLE_WALK_H_

// The fresh walk: what the tables in memory say now, and what an access with
// given controls makes of it. SDM 3A, chapter "Paging".

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

// The registers that decide rights, at the access.
struct Controls {
  bool wp = false, smep = false, smap = false, pke = false, nxe = false, ac = false;
  bool user_mode = false;  // CPL 3 and not implicit
  bool implicit = false;
  std::uint32_t pkru = 0;
};
Controls controls_of(const Registers& registers, bool implicit);

constexpr bool stores(AccessKind kind) {
  return kind == AccessKind::kWrite || kind == AccessKind::kRmw;
}

// Error-code bits that say what was tried: W, U, I. SDM 3A §"Page-Fault Exceptions".
std::uint32_t attempt_bits(const Controls& controls, AccessKind kind);

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
  Rights rights;           // of the entries used; complete with kLeaf only
  std::uint64_t gpa = 0;   // kLeaf: of the byte
  // The first `count` mean something; left unset otherwise, a walk is the hot path.
  std::uint64_t entry[kMaxLevels];
  std::uint64_t entry_gpa[kMaxLevels];
};

// The memory that a walk reads.
class GuestMemory {
 public:
  GuestMemory(const Memslots& slots, const Image& image) : slots_(slots), image_(image) {}
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
  const Memslots& slots_;
  const Image& image_;
};

// Precondition: gva is canonical. `cr3` as the register holds it.
void walk(const GuestMemory& memory, const EntryRules& rules, std::uint64_t cr3, std::uint64_t gva,
          Walk& out);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_WALK_H_
