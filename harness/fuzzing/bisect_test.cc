#include "harness/fuzzing/bisect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace twinwalk::fuzz {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Revisions of which `first_bad` and those after it are bad, and of `untold` nobody can tell.
struct History {
  std::size_t revisions, first_bad;
  std::set<std::size_t> untold = {};

  Bisection bisection(bool first_good) {
    return Bisection(revisions, first_good, [this](std::size_t n) {
      EXPECT_LT(n, revisions);
      EXPECT_TRUE(asked.insert(n).second) << n << " is asked twice";
      if (untold.count(n) != 0) return Judged::kCannotTell;
      return n < first_bad ? Judged::kGood : Judged::kBad;
    });
  }
  std::set<std::size_t> asked = {};
};

TEST(Bisection, FindsEachFirstBadRevision) {
  for (std::size_t revisions = 1; revisions < 40; ++revisions) {
    for (std::size_t first_bad = 0; first_bad < revisions; ++first_bad) {
      for (const bool first_good : {true, false}) {
        History history{revisions, first_bad};
        Bisection search = history.bisection(first_good);
        const auto found = search.run();
        if (first_bad == 0 && !first_good) {
          EXPECT_THAT(found, IsEmpty());
        } else {
          EXPECT_THAT(found, ElementsAre(first_bad)) << revisions;
        }
        EXPECT_LE(search.asked(), 12u);
      }
    }
  }
}

TEST(Bisection, PassesWhatCannotBeTold) {
  History history{20, 12, {9, 10, 14}};
  EXPECT_THAT(history.bisection(true).run(), ElementsAre(12));
}

TEST(Bisection, NamesAllThatItMayBe) {
  History history{20, 12, {10, 11, 12}};
  EXPECT_THAT(history.bisection(true).run(), ElementsAre(10, 11, 12, 13));
}

TEST(Bisection, AllUntoldLeavesAllOpen) {
  History history{4, 0, {0, 1, 2}};
  EXPECT_THAT(history.bisection(true).run(), ElementsAre(0, 1, 2, 3));
  History back{4, 0, {0, 1, 2}};
  EXPECT_THAT(back.bisection(false).run(), IsEmpty());
}

// As old revisions cease to be built.
TEST(Bisection, GoesBackAsFarAsCanBeTold) {
  History all_bad{64, 0, {}};
  for (std::size_t n = 0; n < 40; ++n) all_bad.untold.insert(n);
  Bisection search = all_bad.bisection(false);
  EXPECT_THAT(search.run(), IsEmpty());
  EXPECT_EQ(search.oldest_bad(), 40u);
  EXPECT_LE(search.asked(), 12u);

  History some_good{64, 43, all_bad.untold};
  EXPECT_THAT(some_good.bisection(false).run(), ElementsAre(43));
}

}  // namespace
}  // namespace twinwalk::fuzz
