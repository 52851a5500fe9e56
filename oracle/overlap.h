#ifndef TWINWALK_ORACLE_OVERLAP_H_
#define TWINWALK_ORACLE_OVERLAP_H_

// Steps that overlap others are judged as if each were done at one moment. An access is not: its
// walk may set A and D long before it completes.

#include "harness/trace/program.h"
#include "oracle/machine_state.h"

namespace twinwalk::oracle {

// The access of `step` is under way, and not judged yet: what it may already have set in the
// entries on its present path is open. Nothing for other verbs.
void leave_open_under_way(MachineState& state, const Step& step);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_OVERLAP_H_
