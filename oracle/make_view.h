#ifndef TWINWALK_ORACLE_MAKE_VIEW_H_
#define TWINWALK_ORACLE_MAKE_VIEW_H_

// How Spec::view opens a walk; walk_view.h is what outsiders see.

#include "oracle/access.h"
#include "oracle/staleness.h"
#include "oracle/walk_view.h"

namespace twinwalk::oracle {

// Changes nothing.
WalkView make_view(const MachineState& state, unsigned vcpu, const AccessQuery& query);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_MAKE_VIEW_H_
