// A broken invariant inside the core is a verdict on the step, not the end of the process.

#include <gtest/gtest.h>

#include <string>

#include "harness/checker.h"
#include "harness/core_subject.h"
#include "harness/trace/parse.h"
#include "mmu_core/prefetch.h"

namespace mmu {

// In place of the core's own, which its archive then need not give: finds an invariant broken, with
// shadow pages in use and the mmu lock held.
void prefetch(VcpuState& vcpu, ShadowPage&, unsigned) {
  vcpu.vm->platform.panic("seeded for this test");
}

}  // namespace mmu

namespace twinwalk {
namespace {

constexpr char kMap[] = "map gva=0x400000 gpa=0x5000\n";
constexpr char kMapAndAccess[] =
    "map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\ninvlpg gva=0x400000\n";

Trace trace_of(const std::string& ops) {
  const auto parsed = parse("walk 1\nmachine core=shadow memory=64M vcpus=1\n" + ops);
  EXPECT_TRUE(static_cast<bool>(parsed)) << (parsed.error ? to_text(*parsed.error) : "");
  return parsed.trace;
}

TEST(CoreTrap, PanicIsTheVerdictOfItsStep) {
  const auto subject = make_core_subject();
  Checker checker(*subject);
  const CheckResult r = checker.check(trace_of(kMapAndAccess));
  EXPECT_EQ(r.divergence, DivergenceClass::kTrap);
  EXPECT_EQ(r.diverge, 1u);
  EXPECT_EQ(r.verb, Verb::kAccess);
  EXPECT_EQ(checker.outcomes().complaint_text, "seeded for this test");
}

TEST(CoreTrap, StepsBeforeStandAndTheRestIsNotExecuted) {
  const auto subject = make_core_subject();
  Program program;
  OutcomeStream out;
  Lowering().lower(trace_of(kMapAndAccess), program);
  subject->run(program, out);
  ASSERT_EQ(out.steps.size(), program.steps.size());
  bool trapped = false;
  for (std::size_t i = 0; i < out.steps.size(); ++i) {
    const bool here = program.steps[i].what.verb == Verb::kAccess;
    trapped |= here;
    EXPECT_EQ(out.steps[i].kind, trapped ? OutcomeKind::kSkip : OutcomeKind::kDone) << "step " << i;
    EXPECT_EQ(out.steps[i].reason, trapped ? SkipReason::kSubjectStopped : SkipReason::kNone);
    EXPECT_EQ(out.steps[i].complaint, here ? Complaint::kTrap : Complaint::kNone) << "step " << i;
  }
  EXPECT_TRUE(trapped);
}

// Neither its locks nor its shadow pages are in the way of the next run.
TEST(CoreTrap, NextRunStartsAfresh) {
  const auto subject = make_core_subject();
  Checker checker(*subject);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(checker.check(trace_of(kMapAndAccess)).divergence, DivergenceClass::kTrap) << round;
    EXPECT_EQ(checker.check(trace_of(std::string(kMap) + "zap-all\nquota pages=8\n")).divergence,
              DivergenceClass::kNone)
        << round;
  }
}

}  // namespace
}  // namespace twinwalk
