#ifndef TWINWALK_ORACLE_MAKE_VIEW_H_
#define TWINWALK_ORACLE_MAKE_VIEW_H_

// How Spec::view opens a walk; walk_view.h is what outsiders see.

#include "oracle/access.h"
#include "oracle/paging.h"
#include "oracle/staleness.h"
#include "oracle/walk_view.h"

namespace twinwalk::oracle {

// Changes nothing.
WalkView make_view(const MachineState& state, unsigned vcpu, const AccessQuery& query);
// The same of a vCPU in guest mode.
WalkView make_guest_view(const MachineState& state, unsigned vcpu, const AccessQuery& query);

// Opens one entry; `rights` accumulates.
WalkViewStep open_entry(const EntryRules& rules, std::uint64_t gva, std::uint64_t gpa,
                        std::uint64_t entry, unsigned level, Rights& rights);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_MAKE_VIEW_H_
