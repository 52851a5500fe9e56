#ifndef TWINWALK_KVM_RUNNER_TESTING_SPEC_JUDGE_H_
#define TWINWALK_KVM_RUNNER_TESTING_SPEC_JUDGE_H_

// For tests: judges a trace on a subject by the reference `spec` and the known deviations.

#include <fmt/format.h>

#include <functional>
#include <string>

#include "kvm_runner/conform.h"
#include "kvm_runner/known.h"
#include "oracle/spec.h"

namespace twinwalk::kvm {

struct JudgedStep {
  std::uint32_t index;
  const Step& step;
  const Outcome& got;
  const Verdict& verdict;
  std::string_view known;  // id of the deviation that covers it, empty if none does
};

inline CaseVerdict judge_by_spec(const Trace& trace, Subject& subject,
                                 const std::function<void(const JudgedStep&)>& on_divergence = {}) {
  CaseVerdict result;
  Program program;
  Lowering lowering;
  lowering.lower(trace, program);
  OutcomeStream stream;
  subject.run(program, stream);
  oracle::Spec spec;
  spec.reset(program.machine, subject.profile_for(program.machine));
  for (std::uint32_t i = 0; i < program.steps.size(); ++i) {
    const Outcome& got = stream.steps[i];
    Verdict verdict;
    spec.judge(i, program.steps[i], got, stream.extra.data(), verdict);
    ++result.checks;
    if (got.complaint != Complaint::kNone && got.complaint != Complaint::kLiveness) {
      ++result.diverge;
      if (result.why.empty())
        result.why = fmt::format("{}: {}", name_of(got.complaint), stream.complaint_text);
    }
    if (verdict.kind == VerdictKind::kSkip) {
      ++result.skip;
      if (result.why.empty()) result.why = to_text(got);
    }
    if (verdict.kind != VerdictKind::kDiverge) continue;
    const DivergentStep divergent{subject.info(), program, stream, i, verdict};
    const std::string_view id = KnownDeviations::built_in().covering(divergent);
    if (on_divergence) on_divergence({i, program.steps[i], got, verdict, id});
    if (!id.empty()) {
      if (result.known++ == 0 && result.diverge == 0) result.why = id;
    } else if (result.diverge++ == 0) {
      result.why = fmt::format("step {} {}: {} {}: got {}, allowed {}", i,
                               name_of(program.steps[i].what.verb), name_of(verdict.divergence),
                               verdict.field, verdict.got, verdict.allowed);
    }
  }
  return result;
}

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_TESTING_SPEC_JUDGE_H_
