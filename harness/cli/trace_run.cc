#include "harness/cli/trace_run.h"

#include "harness/fuzzing/finding_file.h"

namespace twinwalk::cli {

ResultLine line_of(const std::string& name, const SubjectInfo& info, const Trace& trace,
                   const CheckEvent& event, const OutcomeStream& outcomes) {
  ResultLine line = fuzz::line_of(event, info);
  line.trace = name;
  line.got = got_of(event, outcomes);
  line.verb = name_of(trace.ops[event.op].verb);
  if (event.verdict.kind != VerdictKind::kDiverge) line.cls.clear();
  return line;
}

std::string got_of(const CheckEvent& event, const OutcomeStream& outcomes) {
  const std::string& text = outcomes.complaint_text;
  const std::string& got = event.verdict.got;
  const bool tells = event.got.complaint == Complaint::kNone || text.empty() || got == text;
  return tells ? got : got + ": " + text;
}

void add(RunSummary& summary, const Trace& trace, const CheckResult& result) {
  ++summary.traces;
  summary.ops += trace.ops.size();
  summary.checks += result.checks;
  summary.agree += result.agree;
  summary.diverge += result.diverge;
  summary.skip += result.skip;
  summary.unspecified += result.unspecified;
  summary.unicorn_checks += result.unicorn_checks;
}

std::vector<Program> lower_all(std::span<const Trace* const> traces) {
  std::vector<Program> programs;
  Lowering lowering;
  for (const Trace* trace : traces) {
    if (requirements_hold(*trace)) lowering.lower(*trace, programs.emplace_back());
  }
  return programs;
}

}  // namespace twinwalk::cli
