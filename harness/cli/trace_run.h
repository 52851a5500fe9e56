#ifndef TWINWALK_HARNESS_CLI_TRACE_RUN_H_
#define TWINWALK_HARNESS_CLI_TRACE_RUN_H_

// What verbs that run traces have in common.

#include <span>
#include <string>
#include <vector>

#include "harness/checker.h"
#include "harness/trace/program.h"
#include "harness/trace/result_line.h"

namespace twinwalk::cli {

// The result line of something that the checker said of an operation of `trace`, which is called
// `name`.
ResultLine line_of(const std::string& name, const SubjectInfo& info, const Trace& trace,
                   const CheckEvent& event, const OutcomeStream& outcomes);

// What was got, and what the subject said of it if that was a complaint. `outcomes` are those of
// the program that the event is of.
std::string got_of(const CheckEvent& event, const OutcomeStream& outcomes);

// Counts what came of one trace.
void add(RunSummary& summary, const Trace& trace, const CheckResult& result);

// The programs of those traces whose requirements hold: the ones that a checker would run.
std::vector<Program> lower_all(std::span<const Trace* const> traces);

}  // namespace twinwalk::cli

#endif  // TWINWALK_HARNESS_CLI_TRACE_RUN_H_
