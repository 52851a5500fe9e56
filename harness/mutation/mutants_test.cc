#include "harness/mutation/mutants.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "harness/mutation/tokens.h"

namespace twinwalk::mutation {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::string> texts(std::string_view source) {
  std::vector<std::string> out;
  for (const Token& t : tokens_of(source)) out.emplace_back(t.text);
  return out;
}

// What becomes of a line, for each of its mutants of that kind.
std::vector<std::string> mutated(const std::string& source, const std::string& change) {
  std::vector<std::string> out;
  for (const Mutant& m : mutants_of("x.cc", source)) {
    if (m.change == change) out.push_back(with_mutant(source, m));
  }
  return out;
}

std::vector<std::string> ids_of(const std::vector<Mutant>& list) {
  std::vector<std::string> out(list.size());
  std::transform(list.begin(), list.end(), out.begin(), [](const Mutant& m) { return m.id(); });
  return out;
}

TEST(Tokens, LongOperatorsAreOne) {
  EXPECT_THAT(texts("a<<=b->c::d...;"),
              ElementsAre("a", "<<=", "b", "->", "c", "::", "d", "...", ";"));
}

TEST(Tokens, CommentsAndDirectivesAreNone) {
  EXPECT_THAT(texts("#define A \\\n  b\nc /* d\n e */ f // g\n  # if 1\nh"),
              ElementsAre("c", "f", "h"));
}

TEST(Tokens, WhatIsQuotedIsOneToken) {
  EXPECT_THAT(texts("f(\"a == \\\" b\", '\\'', R\"(c \" d)\", 1'000u, 0x1p)"),
              ElementsAre("f", "(", "\"a == \\\" b\"", ",", "'\\''", ",", "R\"(c \" d)\"", ",",
                          "1'000u", ",", "0x1p", ")"));
}

TEST(Tokens, AnythingIsSomeRowOfTokens) {
  for (const char* text : {"\"", "'", "R\"", "R\"(", "/*", "//", "#", "#\\", "\\", "'\\"})
    tokens_of(text);
  EXPECT_THAT(texts("\"open"), ElementsAre("\"open"));
}

TEST(Mutants, OperatorsChangeOneAtATime) {
  EXPECT_THAT(mutated("x = a < b && c == d;", "boundary"), ElementsAre("x = a <= b && c == d;"));
  EXPECT_THAT(mutated("x = a < b && c == d;", "logic"), ElementsAre("x = a < b || c == d;"));
  EXPECT_THAT(mutated("x = a < b && c == d;", "equality"), ElementsAre("x = a < b && c != d;"));
  EXPECT_THAT(mutated("x |= a & ~b;", "bits"), ElementsAre("x |= a | ~b;"));
  EXPECT_THAT(mutated("x |= a & ~b;", "assignment"), ElementsAre("x = a & ~b;"));
  EXPECT_THAT(mutated("x |= a & ~b;", "negation"), ElementsAre("x |= a & b;"));
}

TEST(Mutants, BracketsOfTemplatesAndReferencesAreNoOperators) {
  EXPECT_THAT(mutated("f(static_cast<u8>(a), const T& b, auto&& c, *d);", "boundary"), IsEmpty());
  EXPECT_THAT(mutated("f(static_cast<u8>(a), const T& b, auto&& c, *d);", "logic"), IsEmpty());
  EXPECT_THAT(mutated("f(static_cast<u8>(a), const T& b, auto&& c, *d);", "bits"), IsEmpty());
}

TEST(Mutants, ConditionsHoldAlwaysOrNever) {
  EXPECT_THAT(mutated("if (f(a) || b) return;", "always"),
              ElementsAre("if (true || (f(a) || b)) return;"));
  EXPECT_THAT(mutated("if (f(a) || b) return;", "never"),
              ElementsAre("if (false && (f(a) || b)) return;"));
  EXPECT_THAT(mutated("if (int a = f(); a) return;", "never"), IsEmpty())
      << "what is declared there is needed";
}

TEST(Mutants, StatementsAreDropped) {
  EXPECT_THAT(mutated("{ drop(vm, ref); }", "drop"), ElementsAre("{ ; }"));
  EXPECT_THAT(mutated("{ vm.slots[i].at(2)->x = y; }", "drop"), ElementsAre("{ ; }"));
  EXPECT_THAT(mutated("{ ++vm->stats; }", "drop"), ElementsAre("{ ; }"));
  EXPECT_THAT(mutated("for (;;) continue;", "drop"), ElementsAre("for (;;) ;"));
  EXPECT_THAT(mutated("{ a = [&] { return b; }; }", "drop"), ElementsAre("{ ; }"));
}

TEST(Mutants, DeclarationsAndReturnsStay) {
  EXPECT_THAT(mutated("{ int a = f(); auto& b = a; T c(a); return a; }", "drop"), IsEmpty());
  EXPECT_THAT(mutated("{ if (a) { } switch (b) { } using c = d; }", "drop"), IsEmpty());
}

TEST(Mutants, ConstantsGrowByOneAndKeepTheirSuffix) {
  EXPECT_THAT(mutated("x = 0xFFull;", "constant"), ElementsAre("x = 256ull;"));
  EXPECT_THAT(mutated("x = 1'000;", "constant"), ElementsAre("x = 1001;"));
  EXPECT_THAT(mutated("x = 0b11u;", "constant"), ElementsAre("x = 4u;"));
  EXPECT_THAT(mutated("x = true;", "constant"), ElementsAre("x = false;"));
  EXPECT_THAT(mutated("x = 1.5;", "constant"), IsEmpty());
}

TEST(Mutants, WhatIsOnlyForTheCompilerStays) {
  EXPECT_THAT(mutants_of("x.cc", "static_assert(a == 1, \"b\");\n#if A == 1\n// a == b\n"),
              IsEmpty());
}

TEST(Mutants, PlacesAreThoseOfTheFirstChangedByte) {
  const std::vector<Mutant> all = mutants_of("a/x.cc", "\n  x = a &&\n      !b;\n");
  EXPECT_THAT(ids_of(all), ElementsAre("a/x.cc:2:9:logic", "a/x.cc:3:7:negation"));
}

TEST(Mutants, OfThisTreeEachHasANameOfItsOwnAndChangesItsFile) {
  for (const Side side : {Side::kCore, Side::kOracle}) {
    std::string error;
    const std::vector<Mutant> all = mutants_in(TWINWALK_SOURCE_DIR, side, error);
    ASSERT_EQ(error, "");
    EXPECT_GT(all.size(), 2000u);
    std::set<std::string> ids;
    for (const Mutant& m : all) {
      EXPECT_TRUE(ids.insert(m.id()).second) << m.id();
      EXPECT_NE(m.was, m.now) << m.id();
      EXPECT_THAT(m.file, Not(testing::HasSubstr("_test."))) << "tests are what is measured";
    }
  }
}

TEST(Sample, FollowsFromIdsAndSeedAlone) {
  std::vector<Mutant> all;
  for (unsigned i = 0; i < 100; ++i) all.push_back({"x.cc", i, 1, "drop", 0, 0, "", ""});
  const std::vector<std::string> some = ids_of(sample(all, 10, 1));
  EXPECT_EQ(some.size(), 10u);
  EXPECT_EQ(ids_of(sample(all, 10, 1)), some);
  EXPECT_NE(ids_of(sample(all, 10, 2)), some);
  EXPECT_EQ(ids_of(sample(all, 0, 1)).size(), 100u);
  // Another mutant moves at most one of them out.
  std::vector<Mutant> more = all;
  more.insert(more.begin(), {"a.cc", 1, 1, "drop", 0, 0, "", ""});
  const std::vector<std::string> others = ids_of(sample(more, 10, 1));
  unsigned kept = 0;
  for (const std::string& id : others) kept += std::count(some.begin(), some.end(), id) != 0;
  EXPECT_GE(kept, 9u);
}

}  // namespace
}  // namespace twinwalk::mutation
