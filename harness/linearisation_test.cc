// Overlapping steps, judged with outcomes made by hand.

#include "harness/linearisation.h"

#include <gtest/gtest.h>

#include "harness/trace/content.h"
#include "harness/trace/parse.h"

namespace twinwalk {
namespace {

class Judged {
 public:
  explicit Judged(std::string_view body) {
    const ParseResult parsed =
        parse("walk 1\nmachine core=shadow memory=64M vcpus=2 mode=none\n" + std::string(body));
    EXPECT_TRUE(parsed);
    Lowering lowering;
    lowering.lower(parsed.trace, program);
    outcomes.steps.resize(program.steps.size());
    for (std::uint32_t i = 0; i < program.steps.size(); ++i) outcomes.ended.push_back(i);
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
  Judged& ended(std::vector<std::uint32_t> order) {
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

}  // namespace
}  // namespace twinwalk
