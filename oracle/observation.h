#ifndef TWINWALK_ORACLE_OBSERVATION_H_
#define TWINWALK_ORACLE_OBSERVATION_H_

// A subject's outcome of an access beside what the fresh walk says: the small
// comparisons that judging and the staleness model share.

#include "harness/trace/outcome.h"
#include "oracle/access.h"

namespace twinwalk::oracle {

struct Observation {
  const AccessContext& context;
  const FreshAccess& fresh;
  const Outcome& got;

  static constexpr std::uint64_t page_of(std::uint64_t address) {
    return address & ~(kPageBytes - 1);
  }
  bool store() const { return stores(context.query->kind); }

  // The subject may give no path; then its A and D are not judged. What it gives is a walk of
  // memory: not the one of the access where a PDPTE register holds something else.
  bool has_path(unsigned part) const {
    return got.path[part].count != 0 && !fresh.part[part].walk.apart;
  }

  // A #PF for that part with that error code. Of an access that crosses, which address of the page
  // is open.
  bool fault_matches(unsigned part, std::uint32_t error_code) const {
    if (got.error_code != error_code) return false;
    if (fresh.parts == 1) return got.cr2 == fresh.part[0].gva;
    return page_of(got.cr2) == page_of(fresh.part[part].gva);
  }
  // The part that CR2 speaks of.
  unsigned faulting_part() const {
    return fresh.parts == 2 && page_of(got.cr2) == page_of(fresh.part[1].gva) ? 1 : 0;
  }
  bool fault_address_is_ours() const {
    return fresh.parts != 0 && fault_matches(faulting_part(), got.error_code);
  }

  // The read of an RMW may be what exits first.
  bool mmio_direction_matches() const {
    return context.query->kind == AccessKind::kRmw || got.write == store();
  }
  bool lands_at(unsigned part, std::uint64_t gpa) const {
    return got.gpa[part] == kUnknownGpa || got.gpa[part] == gpa;
  }
};

inline bool completes(OutcomeKind kind) {
  return kind == OutcomeKind::kOk || kind == OutcomeKind::kMmio;
}

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_OBSERVATION_H_
