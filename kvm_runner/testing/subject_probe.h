#ifndef TWINWALK_KVM_RUNNER_TESTING_SUBJECT_PROBE_H_
#define TWINWALK_KVM_RUNNER_TESTING_SUBJECT_PROBE_H_

// For tests: runs `.walk` text on a subject, as a machine of its host, and gives what it saw, one
// text a step.

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "harness/subject.h"
#include "harness/trace/parse.h"
#include "kvm_runner/conform.h"

namespace twinwalk::kvm {

struct Seen {
  Program program;
  OutcomeStream stream;
  std::vector<std::string> texts;  // to_text of each outcome
  const Outcome& last() const { return stream.steps.back(); }
  const std::string& last_text() const { return texts.back(); }
};

inline Seen run_text(Subject& subject, std::string_view text) {
  Seen seen;
  ParseResult parsed = parse("walk 1\n" + std::string(text), "test");
  EXPECT_TRUE(parsed) << (parsed.error ? to_text(*parsed.error) : "");
  if (!parsed) return seen;
  fit_to_host(parsed.trace, subject.info());
  Lowering lowering;
  lowering.lower(parsed.trace, seen.program);
  subject.run(seen.program, seen.stream);
  EXPECT_EQ(seen.stream.steps.size(), seen.program.steps.size());
  for (const Outcome& o : seen.stream.steps) seen.texts.push_back(to_text(o));
  EXPECT_EQ(seen.stream.complaint_text, "");
  return seen;
}

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_TESTING_SUBJECT_PROBE_H_
