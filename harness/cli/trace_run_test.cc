#include "harness/cli/trace_run.h"

#include <gtest/gtest.h>

namespace twinwalk::cli {
namespace {

// What is told of a step that ended in `complaint`, of a subject that said `text`.
std::string told(Complaint complaint, const std::string& got, const std::string& text) {
  const Step step{};
  Outcome outcome;
  outcome.complaint = complaint;
  Verdict verdict;
  verdict.got = got;
  OutcomeStream outcomes;
  outcomes.complaint_text = text;
  return got_of({0, 0, step, outcome, verdict, false, {}}, outcomes);
}

TEST(GotOf, TellsWhatTheSubjectSaidOfItsComplaint) {
  EXPECT_EQ(told(Complaint::kTrap, "trap", "the kernel warns"), "trap: the kernel warns");
}

TEST(GotOf, SaysNothingTwice) {
  EXPECT_EQ(told(Complaint::kTrap, "the kernel warns", "the kernel warns"), "the kernel warns");
  EXPECT_EQ(told(Complaint::kTrap, "trap", ""), "trap");
}

TEST(GotOf, LeavesStepsAloneThatComplainOfNothing) {
  EXPECT_EQ(told(Complaint::kNone, "ok", "the kernel warned of another"), "ok");
}

}  // namespace
}  // namespace twinwalk::cli
