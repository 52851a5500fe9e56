#include "harness/expectation.h"

#include <gtest/gtest.h>

#include "harness/trace/x86.h"

namespace twinwalk {
namespace {

Outcome completed(std::uint64_t gpa, std::uint64_t value) {
  Outcome o;
  o.kind = OutcomeKind::kOk;
  o.gpa[0] = gpa;
  o.value = value;
  o.path[0].count = 4;
  for (unsigned i = 0; i < 4; ++i) o.path[0].entry[i] = pte::kP | pte::kA;
  return o;
}

TEST(Expectation, NamesWhatItCaresAbout) {
  const Outcome o = completed(0x5000, 0x12);
  EXPECT_TRUE(matches("ok", o));
  EXPECT_TRUE(matches("ok gpa=0x5000", o));
  EXPECT_TRUE(matches("ok value=0x12 gpa=0x5000", o));
  EXPECT_FALSE(matches("ok gpa=0x500", o));
  EXPECT_FALSE(matches("ok gpa=0x6000", o));
  EXPECT_FALSE(matches("#PF", o));
}

TEST(Expectation, WhereAnAccessLandedIsNotHeldAgainstWhoCannotTell) {
  const Outcome untold = completed(kUnknownGpa, 0x12);
  EXPECT_TRUE(matches("ok gpa=0x5000 value=0x12", untold));
  EXPECT_TRUE(matches("ok gpa=0x5ffe,0x6000", untold));
  EXPECT_FALSE(matches("ok gpa=0x5000 value=0x13", untold));
  EXPECT_FALSE(matches("#PF gpa=0x5000", untold));
  Outcome fault = untold;
  fault.kind = OutcomeKind::kPageFault;
  EXPECT_FALSE(matches("#PF gpa=0x5000", fault));
}

TEST(Expectation, ZeroIsNotPrinted) {
  EXPECT_TRUE(matches("ok value=0x0", completed(0x5000, 0)));
  EXPECT_TRUE(matches("ok value=0", completed(0x5000, 0)));
  EXPECT_FALSE(matches("ok value=0", completed(0x5000, 1)));
}

TEST(Expectation, Faults) {
  Outcome o;
  o.kind = OutcomeKind::kPageFault;
  o.error_code = pfec::kP | pfec::kW;
  o.cr2 = 0xffff'9234'0000'0000;
  EXPECT_TRUE(matches("#PF ec=p|w cr2=0xffff923400000000", o));
  EXPECT_TRUE(matches("#PF ec=p|w", o));
  EXPECT_FALSE(matches("#PF ec=p", o));
}

TEST(Expectation, BitsSetInThePath) {
  Outcome o = completed(0x5000, 1);
  EXPECT_TRUE(matches("ok set pte=a upper=a", o));
  EXPECT_FALSE(matches("ok set pte=a|d", o));
  o.path[0].entry[3] |= pte::kD;
  EXPECT_TRUE(matches("ok gpa=0x5000 set pte=a|d", o));
  o.path[0].entry[1] &= ~pte::kA;
  EXPECT_FALSE(matches("ok set upper=a", o));
  EXPECT_FALSE(matches("ok set pte=nonsense", o));
}

}  // namespace
}  // namespace twinwalk
