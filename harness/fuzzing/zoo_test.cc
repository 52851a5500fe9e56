// What `zoo` makes of a detection. That each bug is found is the verb's own business: it takes
// long.

#include "harness/fuzzing/zoo.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "harness/fuzzing/zoo_finding.h"

namespace twinwalk::fuzz {
namespace {

ZooResult small_and_explained() {
  ZooResult r;
  r.bug = "some-bug";
  r.detected = true;
  r.by = "audit";
  r.cls = "audit-role";
  r.operations = kMostOperations - 1;
  r.rule = "own-checks";
  return r;
}

TEST(Zoo, ABugIsFoundIfItIsSmallAndExplained) { EXPECT_TRUE(found(small_and_explained())); }

TEST(Zoo, ABugThatIsOnlyDetectedIsNotFound) {
  ZooResult r = small_and_explained();
  r.rule.clear();
  EXPECT_FALSE(found(r)) << "no rule";
  r = small_and_explained();
  r.operations = kMostOperations;
  EXPECT_FALSE(found(r)) << "not small";
  r = small_and_explained();
  r.operations = 0;
  EXPECT_FALSE(found(r)) << "no trace";
  r = small_and_explained();
  r.detected = false;
  EXPECT_FALSE(found(r)) << "nothing seen";
}

TEST(Zoo, ALineHasAllThatIsKnown) {
  const auto line = nlohmann::json::parse(to_json(small_and_explained()));
  EXPECT_EQ(line.at("class"), "audit-role");
  EXPECT_EQ(line.at("operations"), kMostOperations - 1);
  EXPECT_EQ(line.at("rule"), "own-checks");
}

TEST(Zoo, TheRuleIsThatOfTheDivergence) {
  const std::string text =
      "      rule        fresh: An access may always do this.\n"
      "   DIVERGENCE stale-after-flush, in gpa\n"
      "      got         ok gpa=0x5000\n"
      "      allowed     ok gpa=0x6000\n"
      "      rule        stale-6: INVLPG drops the page.\n"
      "                  SDM 3A\n"
      "   DIVERGENCE expectation, in expectation\n"
      "      rule        expectation: The trace says so.\n";
  EXPECT_EQ(rule_in_explanation(text), "stale-6");
}

TEST(Zoo, WithoutADivergenceThereIsNoRule) {
  EXPECT_EQ(rule_in_explanation("      rule        fresh: An access may always do this.\n"), "");
  EXPECT_EQ(rule_in_explanation("   DIVERGENCE trap, in process\n      got         x\n"), "");
}

TEST(Zoo, TheClassOfACandidateIsItsNameWithoutTheHash) {
  EXPECT_EQ(class_of_candidate("/x/stale-after-flush-0123abcd.walkb"),
            DivergenceClass::kStaleAfterFlush);
  EXPECT_EQ(class_of_candidate("/x/notes.txt"), DivergenceClass::kNone);
}

}  // namespace
}  // namespace twinwalk::fuzz
