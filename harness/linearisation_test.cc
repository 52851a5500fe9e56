// Overlapping steps, judged with outcomes made by hand.

#include "harness/linearisation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "harness/trace/content.h"
#include "harness/trace/parse.h"

namespace twinwalk {
namespace {

class Judged {
 public:
  explicit Judged(std::string_view body, const std::string& mode = "none") {
    const ParseResult parsed = parse("walk 1\nmachine core=shadow memory=64M vcpus=2 mode=" + mode +
                                     "\n" + std::string(body));
    EXPECT_TRUE(parsed);
    Lowering lowering;
    lowering.lower(parsed.trace, program);
    outcomes.steps.resize(program.steps.size());
    std::vector<std::uint32_t> order(program.steps.size());
    std::iota(order.begin(), order.end(), 0u);
    ended(order);
  }
  Judged& loads(std::uint32_t step, std::uint64_t value) {
    ok(step);
    outcomes.steps[step].value = value;
    return *this;
  }
  Judged& ok(std::uint32_t step) {
    outcomes.steps[step].kind = OutcomeKind::kOk;
    outcomes.steps[step].gpa[0] = program.steps[step].what.gva;
    return *this;
  }
  // Then each step of a block began when the one before it had ended.
  Judged& ended(std::vector<std::uint32_t> order) {
    outcomes.begun.assign(program.steps.size(), 0);
    std::uint32_t outer = 0;
    for (std::uint32_t i = 0; i < program.steps.size(); ++i) {
      const Point point = program.steps[i].what.point;
      if (point == Point::kNone) outer = i;
      const bool follows = point == Point::kNone || program.steps[i - 1].what.point == point;
      const auto before = std::find(order.begin(), order.end(), i - 1);
      outcomes.begun[i] = follows && i != 0 ? static_cast<std::uint32_t>(before - order.begin()) + 1
                                            : outcomes.begun[outer];
    }
    outcomes.ended = std::move(order);
    return *this;
  }
  const std::vector<std::uint32_t>& order(bool holds = true) {
    found.find(program, outcomes, spec, Profile::kKvm, [=] { return holds; });
    return found.order();
  }

  Program program;
  OutcomeStream outcomes;
  oracle::Spec spec;
  Linearisation found;
};

using Order = std::vector<std::uint32_t>;
constexpr char kStoreWithLoadInside[] =
    "access write gva=0x5000 value=0x12\n  at after-walk vcpu=1\n    access read gva=0x5000\n";

TEST(Linearisation, TakesTheOrderInWhichTheyEnded) {
  Judged j(kStoreWithLoadInside);
  j.ok(0).loads(1, seed_word(0x5000)).ended({1, 0});
  EXPECT_EQ(j.order(), (Order{1, 0}));
  EXPECT_EQ(j.found.doubtful_from(), 2u);
}

TEST(Linearisation, FindsAnotherWhereThatIsRefuted) {
  Judged j(kStoreWithLoadInside);
  j.ok(0).loads(1, 0x12).ended({1, 0});
  EXPECT_EQ(j.order(), (Order{0, 1}));
  EXPECT_EQ(j.found.doubtful_from(), 2u);
}

TEST(Linearisation, SaysWhereNoOrderHelps) {
  Judged j(kStoreWithLoadInside);
  j.ok(0).loads(1, 0x13).ended({1, 0});
  j.order();
  EXPECT_LT(j.found.doubtful_from(), 2u);
}

// What comes after the overlap may tell which order it was; there nothing is doubtful.
TEST(Linearisation, LooksAtWhatFollows) {
  const std::string body =
      "access write gva=0x5000 value=0x12\n  at after-walk vcpu=1\n"
      "    access write gva=0x5000 value=0x13\n";
  for (const std::uint64_t last : {0x12u, 0x13u}) {
    Judged j(body + "access read gva=0x5000\n");
    j.ok(0).ok(1).loads(2, last).ended({1, 0, 2});
    EXPECT_EQ(j.order(), last == 0x12 ? (Order{1, 0, 2}) : (Order{0, 1, 2}));
    EXPECT_EQ(j.found.doubtful_from(), 3u);
  }
  Judged wrong(body + "access read gva=0x5000\n");
  wrong.ok(0).ok(1).loads(2, 0x14).ended({1, 0, 2});
  wrong.order();
  EXPECT_EQ(wrong.found.doubtful_from(), 3u);  // a divergence like any other
}

// A store over a page's end is two, with the other's between them.
TEST(Linearisation, DoubtsWhatFollowsAStoreInTwoParts) {
  for (const bool crosses : {true, false}) {
    const std::string at = crosses ? "0x5ffc" : "0x5ff8";
    Judged j("access write gva=" + at +
             " value=0x1111222233334444\n  at before-flush vcpu=1\n"
             "    access write gva=" +
             at +
             " value=0x5555666677778888\n"
             "access read gva=" +
             at + "\n");
    j.ok(0).ok(1).loads(2, 0x1111222277778888).ended({1, 0, 2});
    for (Outcome& o : j.outcomes.steps)
      if (crosses) o.gpa[1] = 0x6000;
    j.order();
    EXPECT_EQ(j.found.doubtful_from(), crosses ? 2u : 3u) << at;
  }
}

TEST(Linearisation, AsksAtTheEnd) {
  Judged j(kStoreWithLoadInside);
  j.ok(0).loads(1, seed_word(0x5000)).ended({1, 0});
  EXPECT_EQ(j.order(false), (Order{1, 0}));  // none satisfies it: the first stays
}

TEST(Linearisation, TheOuterStepMayComeBetweenTwoInnerOnes) {
  Judged j(
      "access write gva=0x5000 value=0x12\n  at after-walk vcpu=1\n    access read gva=0x5000\n"
      "    access read gva=0x5000\n");
  j.ok(0).loads(1, seed_word(0x5000)).loads(2, 0x12).ended({1, 2, 0});
  EXPECT_EQ(j.order(), (Order{1, 0, 2}));
}

// Steps of two blocks overlap each other, too.
TEST(Linearisation, TriesOrdersOfBlocksThatOverlap) {
  const std::string body =
      "access read gva=0x6000\n  at after-walk vcpu=1\n    access write gva=0x5000 value=0x12\n"
      "  at before-flush\n    write gpa=0x5000 value=0x13 by=host\n";
  Judged j(body + "access read gva=0x5000\n");
  j.loads(0, seed_word(0x6000)).ok(1).loads(3, 0x12).ended({1, 2, 0, 3});
  EXPECT_EQ(j.order(), (Order{2, 1, 0, 3}));
  EXPECT_EQ(j.found.doubtful_from(), 4u);
}

// But who ended before another began comes before it.
TEST(Linearisation, KeepsTheOrderOfStepsOneAfterTheOther) {
  const std::string body =
      "access read gva=0x6000\n  at after-walk vcpu=1\n    access write gva=0x5000 value=0x12\n"
      "    access write gva=0x5000 value=0x13\n";
  Judged j(body + "access read gva=0x5000\n");
  j.loads(0, seed_word(0x6000)).ok(1).ok(2).loads(3, 0x12).ended({1, 2, 0, 3});
  const Order& order = j.order();
  EXPECT_LT(std::find(order.begin(), order.end(), 1u), std::find(order.begin(), order.end(), 2u));
  EXPECT_EQ(j.found.doubtful_from(), 4u);  // a divergence like any other
}

class OverlappedPath : public ::testing::Test {
 protected:
  // The outer step reads by the page table at 0x103000, then its block puts in that at 0x104000,
  // before the outer step ends and its path is read.
  static constexpr char kBody[] =
      "map gva=0x400000 gpa=0x5000\nwrite gpa=0x104000 value=0x6067\n"
      "access read gva=0x400000\n  at after-walk vcpu=1\n"
      "    write gpa=0x102010 value=0x104067\n";
  static constexpr std::uint32_t kAccess = 5, kEdit = 6;

  OverlappedPath() : j(kBody, "4-level") {
    j.ok(kAccess);
    j.outcomes.steps[kAccess].gpa[0] = 0x5000;
    j.outcomes.steps[kAccess].value = seed_word(0x5000);
    j.ended({0, 1, 2, 3, 4, kEdit, kAccess});
  }
  void shows(std::uint64_t leaf) {
    Path& path = j.outcomes.steps[kAccess].path[0];
    path.count = 4;
    path.entry[0] = 0x101027, path.entry[1] = 0x102027, path.entry[2] = 0x104067;
    path.entry[3] = leaf;
  }
  Judged j;
};

TEST_F(OverlappedPath, IsWhatMemoryHeldWhenTheAccessEnded) {
  shows(0x6067);
  EXPECT_EQ(j.order(), (Order{0, 1, 2, 3, 4, kAccess, kEdit}));
  EXPECT_EQ(j.found.doubtful_from(), 7u);
  EXPECT_EQ(j.spec.read_word(0x100000), 0x101027u) << "what it showed is followed";
}

TEST_F(OverlappedPath, IsNotWhatMemoryNeverHeld) {
  shows(0x7067);
  j.order();
  EXPECT_LT(j.found.doubtful_from(), 7u);
}

}  // namespace
}  // namespace twinwalk
