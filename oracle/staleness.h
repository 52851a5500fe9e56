#ifndef TWINWALK_ORACLE_STALENESS_H_
#define TWINWALK_ORACLE_STALENESS_H_

// The permitted-staleness model: which combinations of the values that the
// entries on a path had since their last invalidation could a processor (or a
// shadow MMU that obeys the same rules) still be using?
//
//        root ──► entry ──► entry ──► entry ──► frame
//          │        │         │         │
//        used     now       now       now          <- the fresh walk: always allowed
//        roots    before    before    before       <- each choice with P=1, A=1, nothing reserved,
//        in its window
//
// Windows. A value that ended at time e may be used while no invalidation after e covers it. Where
// the walk time of an upper entry lies before an invalidation of the paging-structure caches, all
// of the walk lies before it; and no lower entry is walked before the upper one that leads to it
// (the translation was made in one walk, top down). Under profile `kvm` only level-1 entries and
// untracked edits have a past; see README. A root is CR3, the paging mode and PAE's PDPTE
// registers: what was cached from it is read as in its mode. PDPTEs that AMD reads from memory are
// entries of the path that need no A to be cached, and have a past under both profiles.

#include <cstdint>

#include "harness/trace/op.h"
#include "harness/trace/verdict.h"
#include "oracle/access.h"
#include "oracle/history.h"
#include "oracle/walk.h"

namespace twinwalk::oracle {

// What the search is asked about: one page's part of an access.
struct StaleQuery {
  const GuestMemory* memory = nullptr;
  const History* history = nullptr;
  const RuleBook* rule_book = nullptr;
  bool nxe = false;         // for entries walked now
  bool nxe_was_on = false;  // for those that are cached: the most permissive when they were walked
  Time nxe_left = 0;        // when EFER.NXE last became 0; 0 = it never did
  Profile profile = Profile::kKvm;
  Vendor vendor = Vendor::kIntel;
  unsigned pcid = 0;
  bool pge = false;
  Controls controls;
  AccessKind kind = AccessKind::kRead;
  std::uint64_t gva = 0;
  Time now = 0;
  bool any_attempt = false;  // AMD: also what was walked before the processor walked again
  bool ignore_windows =
      false;  // for a verdict's class: what would explain it if no invalidation counted
};

// The question for one page's part of an access.
StaleQuery make_stale_query(const MachineState& state, const AccessContext& context,
                            std::uint64_t gva);

// One combination and what it gives.
struct StaleWalk {
  std::uint64_t root = 0;  // address of the root table
  unsigned row = 0;        // of kModes
  std::uint8_t count = 0;
  std::uint8_t plain = 0;         // the first so many entries have no A and D
  bool old[kMaxLevels] = {};      // the entry at this step is a former value
  bool fixed[kMaxLevels] = {};    // it is in a read-only memslot, where no walk sets A or D
  Time left_at[kMaxLevels] = {};  // old: when memory stopped holding the value
  bool old_root = false;
  std::uint64_t entry[kMaxLevels] = {};
  std::uint64_t entry_gpa[kMaxLevels] = {};
  std::uint8_t level = 0;  // of the last entry
  bool faults = false;
  std::uint32_t error_code = 0;
  std::uint64_t gpa = 0;          // !faults: of the byte
  Time oldest_end = kStillThere;  // end of the former value that ended first
  bool global = false;

  bool any_old() const;
  // A (and D in the leaf of a store) that the entries walked now lack, by step; the processor sets
  // them.
  std::uint64_t owed(unsigned step, bool store) const;
};

// Sees the combinations one by one; returns true to end the search.
class StaleVisitor {
 public:
  virtual bool visit(const StaleWalk& walk) = 0;

 protected:
  ~StaleVisitor() = default;
};

enum class SearchResult : std::uint8_t { kFound, kNone, kTooLarge };

// Visits every permitted combination that uses at least one former value (or root). Precondition:
// gva is canonical. Allocates nothing.
SearchResult search_stale(const StaleQuery& query, StaleVisitor& visitor);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_STALENESS_H_
