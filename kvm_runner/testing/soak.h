#ifndef TWINWALK_KVM_RUNNER_TESTING_SOAK_H_
#define TWINWALK_KVM_RUNNER_TESTING_SOAK_H_

// For tests: random traces of every paging mode on a subject, judged by the reference `spec`.

#include <gtest/gtest.h>

#include <cstdlib>

#include "harness/testing/random_trace.h"
#include "harness/trace/print.h"
#include "kvm_runner/testing/spec_judge.h"

namespace twinwalk::kvm {

struct SoakTotals {
  std::uint64_t traces = 0, checks = 0, skipped = 0;
};

// TWINWALK_SOAK_TRACES, TWINWALK_SOAK_SEED: longer runs by hand.
inline std::uint64_t soak_number(const char* name, std::uint64_t usual) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 0) : usual;
}

// Steps that the subject has not executed are no failure; what else is not as `spec` says is.
// `adjust` makes the machine one that the host can be.
inline SoakTotals soak(Subject& subject, const RandomTraceOptions& options, std::uint64_t traces,
                       const std::function<void(Machine&)>& adjust) {
  const std::uint64_t seed = soak_number("TWINWALK_SOAK_SEED", 1);
  traces = soak_number("TWINWALK_SOAK_TRACES", traces);
  RandomTrace random(seed);
  SoakTotals totals;
  Trace trace;
  for (std::uint64_t n = 0; n < traces && !testing::Test::HasFailure(); ++n) {
    random.next(options, trace);
    adjust(trace.machine);
    const CaseVerdict verdict = judge_by_spec(trace, subject);
    ++totals.traces;
    totals.checks += verdict.checks;
    totals.skipped += verdict.skip;
    EXPECT_EQ(verdict.diverge, 0u)
        << "trace " << n << " of seed " << seed << ": " << verdict.why << "\n"
        << print(trace);
  }
  return totals;
}

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_TESTING_SOAK_H_
