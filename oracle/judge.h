#ifndef TWINWALK_ORACLE_JUDGE_H_
#define TWINWALK_ORACLE_JUDGE_H_

// Verify, then adopt: each step's outcome is checked against what is allowed and
// then followed, so that the reference's machine stays equal to the subject's.

#include <string>
#include <vector>

#include "harness/trace/outcome.h"
#include "harness/trace/program.h"
#include "harness/trace/verdict.h"
#include "oracle/course.h"
#include "oracle/machine_state.h"

namespace twinwalk::oracle {

struct JudgeInput {
  std::uint32_t index = 0;  // of the step in its program
  const Step* step = nullptr;
  const Outcome* got = nullptr;
  const std::uint64_t* extra = nullptr;  // OutcomeStream::extra
};

// Each judges one step that was not skipped and follows it. `out` is kAgree on entry.
void judge_access(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out);
void judge_register(MachineState& state, const JudgeInput& in, Verdict& out);
void judge_sregs(MachineState& state, const JudgeInput& in, Verdict& out);
void judge_invalidation(MachineState& state, const JudgeInput& in, Verdict& out);
void judge_vcpu(MachineState& state, const JudgeInput& in, Verdict& out);
void judge_host(MachineState& state, const JudgeInput& in, Verdict& out);
// Of bare machines: what the trace does as hypervisor, and its guest's accesses.
void judge_hypervisor(MachineState& state, const JudgeInput& in, Verdict& out);
void judge_guest_access(MachineState& state, const JudgeInput& in, Counters& counters,
                        Verdict& out);

// A guest's load of its PDPTE registers through the second dimension.
struct GuestLoad {
  bool exited = false;                // it ended in an exit: nothing changed
  bool undefined = false;             // somewhere the manual does not say what happens
  std::uint64_t base = 0;             // where they are in physical memory
  std::vector<std::uint64_t> others;  // or there, as well
  Course course;                      // exited: how
};
// Judges what became of it; of several places where they may be, takes the one that suits the
// outcome.
GuestLoad find_guest_load(MachineState& state, const JudgeInput& in, std::uint64_t gpa,
                          bool (*suits)(const MachineState&, std::uint64_t base, OutcomeKind got),
                          Verdict& out);

// Any step, any outcome: skips, complaints, and one of the above.
void judge_step(MachineState& state, const JudgeInput& in, Counters& counters, Verdict& out);

// Whether the step ended so, with nothing more to tell. False: `out` says what should have been.
bool ended_as(const JudgeInput& in, OutcomeKind want, const Rule& rule, Verdict& out);

// What a divergence is in; the address of a fault is called so.
std::string_view field_of(DivergenceClass divergence, std::string_view fault_address);

// Fills a verdict that is not kAgree.
void diverge(Verdict& out, DivergenceClass divergence, const Rule& rule, std::string_view field,
             std::string got, std::string allowed);
void unspecified(Verdict& out, const Rule& rule, std::string_view field, std::string got,
                 std::string allowed);

}  // namespace twinwalk::oracle

#endif  // TWINWALK_ORACLE_JUDGE_H_
