#ifndef TWINWALK_KVM_RUNNER_TESTING_SPEC_JUDGE_H_
#define TWINWALK_KVM_RUNNER_TESTING_SPEC_JUDGE_H_

// For tests: judges a trace on a subject by the reference `spec` and the known deviations.

#include <fmt/format.h>

#include <functional>
#include <string>

#include "harness/trace/stored_words.h"
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

// The first word that a step stored to and that is not, at the end, what the reference has. After
// any divergence, or where the reference does not know everything, images may lawfully differ.
inline bool image_differs(const Program& program, const OutcomeStream& stream, Subject& subject,
                          const oracle::Spec& spec, Verdict& verdict) {
  if (spec.lost_track() || stream.steps.back().reason == SkipReason::kSubjectStopped) return false;
  bool differs = false;
  const auto look_at = [&](std::uint64_t gpa) {
    gpa &= ~std::uint64_t{7};
    std::uint64_t word = 0;
    if (differs || !subject.read_image(gpa, word)) return;
    const std::uint64_t want = spec.read_word(gpa);
    differs = ((word ^ want) & ~spec.open_bits(gpa, word)) != 0;
    if (!differs) return;
    verdict.kind = VerdictKind::kDiverge;
    verdict.divergence = DivergenceClass::kWrongImage;
    verdict.field = "image";
    verdict.got = fmt::format("{:#x} at gpa {:#x}", word, gpa);
    verdict.allowed = fmt::format("{:#x}", want);
  };
  for (std::size_t i = 0; i < program.steps.size(); ++i)
    each_stored(program.steps[i].what, stream.steps[i], look_at);
  return differs;
}

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
  const auto diverge = [&](std::uint32_t i, const Outcome& got, const Verdict& verdict) {
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
  };
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
    if (verdict.kind == VerdictKind::kDiverge) diverge(i, got, verdict);
  }
  Verdict verdict;
  const bool all_agree = result.diverge == 0 && result.known == 0 && !program.steps.empty();
  if (all_agree && image_differs(program, stream, subject, spec, verdict))
    diverge(static_cast<std::uint32_t>(program.steps.size() - 1), stream.steps.back(), verdict);
  return result;
}

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_TESTING_SPEC_JUDGE_H_
