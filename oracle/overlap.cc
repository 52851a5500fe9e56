#include "oracle/overlap.h"

#include "oracle/access.h"

namespace twinwalk::oracle {

// SDM 3A §"Accessed and Dirty Flags": A whenever an entry is used, D not in the leaf of a page that
// faults.
void leave_open_under_way(MachineState& state, const Step& step) {
  const Op& op = step.what;
  if (op.verb != Verb::kAccess || op.vcpu >= state.machine().vcpus) return;
  state.look_as(op.vcpu);
  const AccessQuery query = query_of(step, state.vcpu(op.vcpu).registers);
  const AccessContext context = make_context(state, op.vcpu, query);
  FreshAccess access;
  fresh_access(state, context, access);
  const bool store = query.kind == AccessKind::kWrite || query.kind == AccessKind::kRmw;
  for (unsigned p = 0; p < access.parts; ++p) {
    const AccessPart& part = access.part[p];
    for (unsigned s = 0; s < part.walk.count; ++s) {
      if ((part.walk.entry[s] & pte::kP) == 0) break;
      state.may_have_set(part.walk.entry_gpa[s], owed_bits(part.walk, s, store && !part.faults));
    }
  }
}

}  // namespace twinwalk::oracle
