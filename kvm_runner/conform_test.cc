#include "kvm_runner/conform.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "harness/trace/parse.h"
#include "kvm_runner/host.h"
#include "kvm_runner/subjects.h"
#include "kvm_runner/testing/spec_judge.h"

namespace twinwalk {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Executes nothing: every step has the outcome that the test chose.
class FixedSubject final : public Subject {
 public:
  const SubjectInfo& info() const override { return info_; }
  void run(const Program& program, OutcomeStream& out) override {
    out.clear();
    out.steps.resize(program.steps.size());
  }

 private:
  SubjectInfo info_{"fixed", "1", Profile::kKvm};
};

// One line for the row "mmio" when the judge finds `first` in the first case and `rest` in all
// others.
ConformLine mmio_line(const CaseVerdict& first, const CaseVerdict& rest) {
  FixedSubject subject;
  bool is_first = true;
  std::string feature;
  const auto judge = [&](const Trace&, Subject&) {
    return std::exchange(is_first, false) ? first : rest;
  };
  const auto rows = conform_rows({{Mode::k4Level}}, subject.info());
  for (const ConformLine& line :
       conform(subject, "local", rows, judge, [&](const ConformLine&) { is_first = true; })) {
    if (line.feature == "mmio") return line;
  }
  ADD_FAILURE() << "no row mmio";
  return {};
}

CaseVerdict verdict(std::uint64_t diverge, std::uint64_t known, std::uint64_t skip,
                    std::string why = "") {
  return {1, diverge, known, skip, std::move(why)};
}

class ConformMode : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, ConformMode,
                         testing::Values(Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level,
                                         Mode::k5Level),
                         [](const auto& param) {
                           std::string name(name_of(param.param));
                           name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
                           return name;
                         });

TEST_P(ConformMode, EveryCaseParsesAndIsNamedOnce) {
  EXPECT_GE(conform_features(GetParam()).size(), 9u);
  for (const ConformFeature& feature : conform_features(GetParam())) {
    std::vector<std::string> names;
    for (const ConformCase& c : feature.cases()) {
      const ParseResult parsed = parse(c.text, c.name);
      ASSERT_TRUE(parsed) << feature.name << ": " << (parsed.error ? to_text(*parsed.error) : "");
      EXPECT_EQ(parsed.trace.machine.mode, GetParam()) << feature.name << "/" << c.name;
      EXPECT_EQ(std::count(names.begin(), names.end(), c.name), 0) << feature.name << "/" << c.name;
      names.push_back(c.name);
    }
    EXPECT_FALSE(names.empty()) << feature.name;
  }
}

TEST(Conform, AgreementPasses) {
  const ConformLine line = mmio_line(verdict(0, 0, 0), verdict(0, 0, 0));
  EXPECT_EQ(line.result, ConformResult::kPass);
  EXPECT_EQ(line.checks, 16u);
  EXPECT_EQ(line.why, "");
}

TEST(Conform, OneDivergenceFailsTheRowAndKeepsTheCase) {
  const ConformLine line = mmio_line(verdict(1, 0, 0, "missed-fault"), verdict(0, 0, 1, "skip"));
  EXPECT_EQ(line.result, ConformResult::kFail);
  ASSERT_EQ(line.failed.size(), 1u);
  EXPECT_EQ(line.failed[0].name, "size-1-cpl0");
  EXPECT_THAT(line.why, HasSubstr("missed-fault"));
}

TEST(Conform, KnownIsNoPass) {
  EXPECT_EQ(mmio_line(verdict(0, 1, 0, "id"), verdict(0, 0, 0)).result, ConformResult::kKnown);
}

TEST(Conform, SkippedEverywhereIsSkipAndSkippedSomewhereSaysSo) {
  EXPECT_EQ(mmio_line(verdict(0, 0, 1), verdict(0, 0, 1)).result, ConformResult::kSkip);
  const ConformLine some = mmio_line(verdict(0, 0, 1, "skip x"), verdict(0, 0, 0));
  EXPECT_EQ(some.result, ConformResult::kPass);
  EXPECT_EQ(some.why, "1 of 16 cases skipped: skip x");
}

TEST(Conform, RowsAreThinnedEvenlyAndTheCorpusIsThere) {
  const SubjectInfo info{"core", "", Profile::kKvm, false, Vendor::kAmd, {}};
  const auto all = conform_rows({{Mode::k4Level, Mode::kPae}, true, 0}, info);
  const auto few = conform_rows({{Mode::k4Level, Mode::kPae}, true, 3}, info);
  ASSERT_EQ(all.size(), few.size());
  std::size_t corpus = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(few[i].traces.size(), std::min<std::size_t>(3, all[i].traces.size()));
    EXPECT_EQ(few[i].traces.front().name, all[i].traces.front().name);
    if (all[i].feature.compare(0, 7, "corpus-") == 0) corpus += all[i].traces.size();
    for (const ConformTrace& c : all[i].traces) {
      EXPECT_EQ(c.trace.machine.vendor, Vendor::kAmd);
      EXPECT_EQ(std::string(name_of(c.trace.machine.mode)), all[i].mode) << c.name;
    }
  }
  EXPECT_GT(corpus, 200u);
}

TEST(Conform, ASubjectOfOneDimensionGetsTheTracesOfThat) {
  SubjectInfo info{"core-vmx", "", Profile::kKvm, true, {}, Dimension::kEpt};
  for (const ConformRow& row : conform_rows({{Mode::k4Level}, true, 0}, info)) {
    for (const ConformTrace& c : row.traces)
      EXPECT_EQ(c.trace.machine.core, Dimension::kEpt) << row.feature << "/" << c.name;
  }
}

TEST(Conform, LineIsJsonInSchemaOrder) {
  ConformLine line;
  line.feature = "mmio", line.subject = "kvm", line.host = "local", line.mode = "4-level",
  line.checks = 3, line.why = "\"x\"";
  EXPECT_EQ(to_json(line),
            R"({"feature":"mmio","subject":"kvm","host":"local","mode":"4-level","result":"pass",)"
            R"("checks":3,"why":"\"x\""})");
}

TEST(Conform, MatrixHasAColumnASubject) {
  std::vector<ConformLine> lines(2);
  lines[0].feature = lines[1].feature = "mmio";
  lines[0].subject = "kvm", lines[1].subject = "core-kvm";
  lines[1].result = ConformResult::kSkip;
  const std::string text = conform_matrix(lines);
  EXPECT_THAT(text, HasSubstr("core-kvm"));
  EXPECT_THAT(text, HasSubstr("pass 0"));
  EXPECT_THAT(text, HasSubstr("skip 0"));
}

// ---- on this host

struct HostRun {
  std::vector<std::string> failed, known;  // cases; rows
  std::uint64_t passed = 0;                // rows
};

HostRun run_on_host(Subject& subject, Mode mode) {
  const auto judge = [](const Trace& trace, Subject& s) { return kvm::judge_by_spec(trace, s); };
  const auto lines = conform(subject, "local", conform_rows({{mode}}, subject.info()), judge);
  std::fputs(conform_matrix(lines).c_str(), stdout);
  HostRun run;
  for (const ConformLine& line : lines) {
    run.passed += line.result == ConformResult::kPass;
    if (line.result == ConformResult::kKnown) run.known.push_back(line.feature);
    for (const ConformTrace& c : line.failed) run.failed.push_back(line.feature + "/" + c.name);
  }
  return run;
}

TEST(ConformOnHost, Kvm) {
  std::string why;
  const auto subject = make_kvm_subject(why);
  if (!subject) GTEST_SKIP() << why;
  const HostRun run = run_on_host(*subject, Mode::k4Level);
  EXPECT_THAT(run.failed, IsEmpty());
  EXPECT_GE(run.passed, 15u) << "too much is skipped for this to mean anything";
  kvm::Host host;
  ASSERT_TRUE(host.open(why));
  if (host.emulates_supervisor()) {
    EXPECT_THAT(run.known,
                ElementsAre("canonical", "linear-space", "page-crossing", "control-registers"));
  }
}

TEST_P(ConformMode, CoreKvmOnHost) {
  kvm::Host host;
  std::string why;
  const auto subject = make_core_kvm_subject(why);
  if (!subject) GTEST_SKIP() << why;
  const HostRun run = run_on_host(*subject, GetParam());
  EXPECT_THAT(run.failed, IsEmpty());
  EXPECT_THAT(run.known, IsEmpty());
  ASSERT_TRUE(host.open(why));
  if (GetParam() == Mode::k5Level && (host.features() & feature::kLa57) == 0) return;
  EXPECT_GE(run.passed, GetParam() == Mode::kNone ? 9u : 15u)
      << "too much is skipped for this to mean anything";
}

}  // namespace
}  // namespace twinwalk
