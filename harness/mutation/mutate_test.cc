// What `mutate` makes of what it saw. That mutants are built and tried is the verb's own business:
// it takes long.

#include "harness/mutation/mutate.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace twinwalk::mutation {
namespace {

MutantResult result(Fate fate) {
  MutantResult r;
  r.mutant = {"mmu_core/x.cc", 3, 5, "logic", 10, 12, "||", "&&"};
  r.fate = fate;
  if (fate == Fate::kKilled) r.by = "corpus", r.how = "wrong-frame";
  return r;
}

TEST(Mutate, TheScoreCountsProgramsOfTheirOwn) {
  Score score;
  EXPECT_EQ(score.percent(), 0);
  for (const Fate f : {Fate::kKilled, Fate::kKilled, Fate::kKilled, Fate::kSurvived, Fate::kInvalid,
                       Fate::kEquivalent})
    score.add(f);
  EXPECT_EQ(score.percent(), 75);
}

TEST(Mutate, ALineHasAllThatIsKnown) {
  const auto line = nlohmann::json::parse(to_json(result(Fate::kKilled)));
  EXPECT_EQ(line.at("mutant"), "mmu_core/x.cc:3:5:logic");
  EXPECT_EQ(line.at("fate"), "killed");
  EXPECT_EQ(line.at("by"), "corpus");
  EXPECT_EQ(line.at("how"), "wrong-frame");
  EXPECT_EQ(line.at("was"), "&&");
  EXPECT_EQ(line.at("now"), "||");
}

TEST(Mutate, TheSummarySaysTheBound) {
  Score score;
  score.add(Fate::kKilled);
  const auto line = nlohmann::json::parse(to_json(score, Side::kOracle, 80)).at("summary");
  EXPECT_EQ(line.at("side"), "oracle");
  EXPECT_EQ(line.at("mutants"), 1);
  EXPECT_EQ(line.at("score"), 100.0);
  EXPECT_EQ(line.at("bound"), 80.0);
}

TEST(Mutate, PeopleSeeWhatSurvived) {
  EXPECT_NE(story_of(result(Fate::kSurvived)).find("`&&` -> `||`"), std::string::npos);
  EXPECT_EQ(story_of(result(Fate::kKilled)),
            "killed     mmu_core/x.cc:3:5:logic by corpus: wrong-frame");
}

}  // namespace
}  // namespace twinwalk::mutation
