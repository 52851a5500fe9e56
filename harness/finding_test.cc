#include "harness/finding.h"

#include <gtest/gtest.h>

namespace twinwalk {
namespace {

CheckResult diverged() {
  CheckResult r;
  r.divergence = DivergenceClass::kMissedFault;
  r.verb = Verb::kAccess;
  r.field = "outcome";
  r.step = 7;
  return r;
}

TEST(Finding, SameWhereverItHappens) {
  CheckResult other = diverged();
  other.step = 9;
  other.op = 3;
  EXPECT_EQ(finding_of(diverged(), Profile::kKvm), finding_of(other, Profile::kKvm));
  EXPECT_EQ(hash_of(finding_of(diverged(), Profile::kKvm)),
            hash_of(finding_of(other, Profile::kKvm)));
}

TEST(Finding, EachPartTellsFindingsApart) {
  const Finding one = finding_of(diverged(), Profile::kKvm);
  Finding other = one;
  other.profile = Profile::kArchitecture;
  EXPECT_NE(hash_of(one), hash_of(other));
  other = one;
  other.field = "value";
  EXPECT_NE(hash_of(one), hash_of(other));
  other = one;
  other.verb = Verb::kWrite;
  EXPECT_NE(hash_of(one), hash_of(other));
  other = one;
  other.divergence = DivergenceClass::kSpuriousFault;
  EXPECT_NE(hash_of(one), hash_of(other));
}

// Files of findings are named by it: it must never change.
TEST(Finding, NameIsStable) {
  EXPECT_EQ(name_of(finding_of(diverged(), Profile::kKvm)), "missed-fault-cd99233f");
}

}  // namespace
}  // namespace twinwalk
