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

// The moment of that access has come, which was under way: what it may have set until now it may
// as well not have, and so memory may have been without it all the time.
void take_back_under_way(MachineState& state, const Step& step);

// An access shows its path as it was read when it ended, after moments of steps that are judged
// later. Whether the entries that a walk finds now are those of `got`, but for A and D that are
// open; those that were set are settled then.
bool adopt_later_path(MachineState& state, const Step& step, const Outcome& got);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_OVERLAP_H_
