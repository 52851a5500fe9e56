// What `zoo` makes of a detection. That each bug is found is the verb's own business: it takes
// long.

#include "harness/fuzzing/zoo.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/fuzzing/config.h"
#include "harness/fuzzing/zoo_finding.h"

namespace twinwalk::fuzz {
namespace {

ZooResult small_and_explained() {
  ZooResult r;
  r.bug = "some-bug";
  r.trial.divergence = DivergenceClass::kAuditRole;
  r.trial.reached = r.trial.triggered = true;
  r.trial.to_reach = 0.25;
  r.trial.to_detect = r.trial.seconds = 1.5;
  r.operations = kMostOperations - 1;
  r.rule = "own-checks";
  return r;
}

ZooResult quiet_control() {
  ZooResult r;
  r.bug = "neutral-change";
  r.control = true;
  r.trial.reached = r.trial.triggered = true;
  r.trial.seconds = 10;
  return r;
}

TEST(Zoo, ABugIsFoundIfItIsSmallAndExplained) { EXPECT_TRUE(is_good(small_and_explained())); }

TEST(Zoo, ABugThatIsOnlyDetectedIsNotFound) {
  ZooResult r = small_and_explained();
  r.rule.clear();
  EXPECT_FALSE(is_good(r)) << "no rule";
  r = small_and_explained();
  r.operations = kMostOperations;
  EXPECT_FALSE(is_good(r)) << "not small";
  r = small_and_explained();
  r.operations = 0;
  EXPECT_FALSE(is_good(r)) << "no trace";
  r = small_and_explained();
  r.trial.divergence = DivergenceClass::kNone;
  EXPECT_FALSE(is_good(r)) << "nothing seen";
}

TEST(Zoo, AControlIsGoodIfItHappenedAndNobodyMinded) {
  EXPECT_TRUE(is_good(quiet_control()));
  ZooResult r = quiet_control();
  r.trial.triggered = false;
  EXPECT_FALSE(is_good(r)) << "it never happened";
  r = quiet_control();
  r.trial.divergence = DivergenceClass::kWrongFrame;
  EXPECT_FALSE(is_good(r)) << "a false alarm";
  EXPECT_NE(story_of(r).find("FALSE ALARM wrong-frame"), std::string::npos) << story_of(r);
}

TEST(Zoo, ALineHasAllThatIsKnown) {
  const auto line = nlohmann::json::parse(to_json(small_and_explained()));
  EXPECT_EQ(line.at("class"), "audit-role");
  EXPECT_EQ(line.at("by"), "audit");
  EXPECT_EQ(line.at("operations"), kMostOperations - 1);
  EXPECT_EQ(line.at("rule"), "own-checks");
  EXPECT_EQ(line.at("control"), false);
  EXPECT_EQ(line.at("seconds"), 1.5);
  EXPECT_EQ(line.at("seconds_to_reach"), 0.25);
  EXPECT_TRUE(line.at("seconds_to_trigger").is_null()) << "a crash takes it along";
}

TEST(Zoo, ExhibitsAreBugsThenControls) {
  const std::string folder = ::testing::TempDir() + "twinwalk-zoo-exhibits";
  std::filesystem::create_directories(folder);
  for (const char* name : {"b.patch", "a.patch", "neutral-c.patch", "a.walk", "notes.txt"})
    std::ofstream(folder + "/" + name).put('x');
  const std::vector<Exhibit> all = list_exhibits(folder);
  std::filesystem::remove_all(folder);
  ASSERT_GE(all.size(), 10u);
  EXPECT_EQ(all[0].id, "a");
  EXPECT_EQ(all[1].id, "b");
  EXPECT_FALSE(all[1].control);
  unsigned by_patch = 0;
  for (std::size_t i = 2; i < all.size(); ++i) {
    EXPECT_TRUE(all[i].control) << all[i].id;
    EXPECT_EQ(all[i].patch.empty(), find_config(all[i].config).has_value()) << all[i].id;
    by_patch += !all[i].patch.empty();
  }
  EXPECT_EQ(by_patch, 1u);
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
