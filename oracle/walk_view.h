#ifndef TWINWALK_ORACLE_WALK_VIEW_H_
#define TWINWALK_ORACLE_WALK_VIEW_H_

// A walk opened up for people: what was read at each level, what it adds up to,
// what decides, and which former values the staleness model would still allow.
// For `explain` and reports; never on the judging path.

#include <cstdint>
#include <string_view>
#include <vector>

#include "harness/trace/machine.h"
#include "harness/trace/outcome.h"
#include "harness/trace/verdict.h"

namespace twinwalk::oracle {

// One entry of the second dimension, as read.
struct NestedViewStep {
  unsigned level = 0;    // 5..1
  std::uint64_t at = 0;  // in physical memory
  unsigned index = 0;    // of the entry in its table
  std::uint64_t entry = 0;
  std::uint64_t after = 0;  // as the access has to leave it
  bool present = false;
  bool misconfigured = false;  // present; NPT: a reserved bit
  bool leaf = false;
  std::string_view format;  // title of the manual's table that has its bits
};

// The walk of one guest-physical address through the second dimension.
struct NestedView {
  std::uint64_t gpa = 0;
  std::vector<NestedViewStep> steps;  // root first; empty: there is no such walk
  bool translates = false;            // to hpa, whatever the rights
  std::uint64_t hpa = kUnknownGpa;
};

// One entry, as read.
struct WalkViewStep {
  unsigned level = 0;           // 5 = PML5E ... 1 = PTE, in every mode
  std::uint64_t table_gpa = 0;  // of the table: 4K-aligned, PAE's PDPT 32-aligned
  unsigned index = 0;           // of the entry in it
  std::uint64_t entry_gpa = 0;
  std::uint64_t entry = 0;      // of 4 bytes in 32-bit paging
  std::string_view format;      // title of the manual's table that has its bits
  bool from_register = false;   // PAE: `entry` is the PDPTE register; memory may hold another value
  bool memory_differs = false;  // and does: in_memory (0 where there is no memory)
  std::uint64_t in_memory = 0;
  bool leaf = false;
  std::uint64_t frame = 0;  // P=1: address of the next table, or of the page
  bool reserved = false;    // P=1 and a reserved bit set; `reserved_bits` says which
  std::uint64_t reserved_bits = 0;
  // Rights of all entries down to this one; PAE's PDPTEs have none.
  bool writable = false, user = false, executable = false;
  bool former = false;             // WalkViewStale: not what memory holds now
  std::uint32_t former_until = 0;  // number of steps judged when memory stopped holding it
  NestedView nested;  // in guest mode: how the processor got at the entry; not of a register
};

// The walk for one page of an access.
struct WalkViewPart {
  std::uint64_t gva = 0;
  std::vector<WalkViewStep> steps;    // root first; ends where the walk ends
  bool table_without_memory = false;  // the next entry has no memslot behind it
  bool translates = false;            // a leaf was reached, or paging is off
  std::uint64_t gpa = kUnknownGpa;    // translates: of the byte
  // In guest mode the walk that comes last: of `gpa`, or of the entry that could not be read.
  NestedView nested;
  unsigned pkey = 0;  // translates
  bool faults = false;
  std::uint32_t error_code = 0;  // faults
  const Rule* rule = nullptr;    // what decides; static storage
};

// One permitted outcome that uses former values.
struct WalkViewStale {
  unsigned part = 0;
  std::uint64_t root = 0;  // differs from CR3 where an earlier root is used
  std::vector<WalkViewStep> steps;
  bool faults = false;
  std::uint32_t error_code = 0;
  std::uint64_t gpa = kUnknownGpa;
};

struct WalkView {
  Nesting second = Nesting::kNone;  // the dimension that nested walks go through
  Mode mode = Mode::kNone;
  Outcome fresh;  // of the whole access; no paths
  std::vector<WalkViewPart>
      parts;  // two if the access crosses a page; none if an address is not canonical
  const Rule* rule = nullptr;        // what decides the whole
  std::vector<WalkViewStale> stale;  // outcomes that differ from each other, at most kMaxStaleViews
  bool more_stale = false;           // there are more than that
};
inline constexpr std::size_t kMaxStaleViews = 16;

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_WALK_VIEW_H_
