// Survival over trials, and trials put together.

#include "reports/zoo_table.h"

#include <gtest/gtest.h>

namespace twinwalk::reports {
namespace {

TEST(Survival, WithoutCensoringIsThePartThatIsLeft) {
  const std::vector<Point> s = survival({{4, true}, {1, true}, {2, true}, {2, true}});
  ASSERT_EQ(s.size(), 4u);
  EXPECT_DOUBLE_EQ(s[0].y, 1);
  EXPECT_DOUBLE_EQ(s[1].x, 1);
  EXPECT_DOUBLE_EQ(s[1].y, 0.75);
  EXPECT_DOUBLE_EQ(s[2].y, 0.25);
  EXPECT_DOUBLE_EQ(s[3].y, 0);
}

// Kaplan and Meier: who left at 2 counts among those that wait at 1, and no more at 3.
TEST(Survival, WhoLeavesEarlySaysNothingAfterwards) {
  const std::vector<Point> s = survival({{1, true}, {2, false}, {3, true}, {4, false}});
  ASSERT_EQ(s.size(), 3u);
  EXPECT_DOUBLE_EQ(s[1].y, 0.75);
  EXPECT_DOUBLE_EQ(s[2].y, 0.375);
}

TEST(Survival, MedianIsWhereHalfHasHappened) {
  EXPECT_DOUBLE_EQ(median_time({{1, true}, {2, true}, {3, true}}), 2);
  EXPECT_LT(median_time({{1, true}, {60, false}, {60, false}}), 0);
  EXPECT_EQ(median_text({{60, false}}), "-");
  EXPECT_EQ(median_text({{0.42, true}}), "0.42 s");
}

ZooLine line(const char* bug, bool detected, double seconds) {
  ZooLine z;
  z.bug = bug;
  z.reached = z.triggered = true;
  z.detected = detected;
  z.seconds = seconds;
  return z;
}

TEST(ZooRows, TrialsOfABugAreOneRow) {
  const std::vector<ZooLine> lines = {line("a", true, 1), line("b", true, 2), line("a", false, 60)};
  const std::vector<ZooRow> rows = zoo_rows(lines);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].trials.size(), 2u);
  EXPECT_EQ(rows[0].detections(), 1u);
  EXPECT_FALSE(rows[0].is_good()) << "one trial missed it";
  EXPECT_TRUE(rows[1].is_good());
}

TEST(ZooRows, AControlIsGoodIfItHappenedAndWasNotDetected) {
  std::vector<ZooLine> lines = {line("quiet", false, 10), line("loud", true, 1),
                                line("never", false, 10)};
  for (ZooLine& z : lines) z.control = true;
  lines[2].triggered = false;
  const std::vector<ZooRow> rows = zoo_rows(lines);
  EXPECT_TRUE(rows[0].is_good());
  EXPECT_FALSE(rows[1].is_good());
  EXPECT_FALSE(rows[2].is_good());
  EXPECT_TRUE(zoo_curves(rows)[2].ends.empty()) << "controls are no bugs";
}

TEST(ZooRows, WhoCrashedReachedItNobodyKnowsWhen) {
  std::vector<ZooLine> lines = {line("a", true, 1), line("a", false, 60)};
  lines[1].reached = false;
  const std::vector<ZooRow> rows = zoo_rows(lines);
  ASSERT_EQ(rows[0].reach.size(), 1u);
  EXPECT_FALSE(rows[0].reach[0].happened);
  EXPECT_EQ(rows[0].detect.size(), 2u);
}

TEST(ZooRows, WaysAreEachToldOnce) {
  std::vector<ZooLine> lines = {line("a", true, 1), line("a", true, 2), line("a", true, 3)};
  for (ZooLine& z : lines) z.by = "audit", z.cls = "audit-role", z.operations = 4;
  lines[2].cls = "audit-rmap";
  EXPECT_EQ(zoo_rows(lines)[0].ways(),
            "audit (audit-role), 4 operations; audit (audit-rmap), 4 operations");
}

}  // namespace
}  // namespace twinwalk::reports
