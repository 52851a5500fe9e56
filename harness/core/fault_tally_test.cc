#include "harness/core/fault_tally.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace twinwalk {
namespace {

TEST(FaultTallyTest, EachFaultHasACountOfItsOwn) {
  FaultTally tally;
  EXPECT_EQ(tally.count({0x1000, 1}), 1u);
  EXPECT_EQ(tally.count({0x1000, 2}), 1u);
  EXPECT_EQ(tally.count({0x2000, 1}), 1u);
  EXPECT_EQ(tally.count({0x1000, 1}), 2u);
  EXPECT_EQ(tally.count({0x2000, 1}), 2u);
}

// What goes on faulting is noticed even if it never does so twice at one place.
TEST(FaultTallyTest, MoreFaultsThanAPathHasCountAsOne) {
  FaultTally tally;
  unsigned most = 0;
  for (std::uint64_t page = 0; page < 200; ++page)
    most = std::max(most, tally.count({page << 12, 1}));
  EXPECT_EQ(most, 200u - 64u);
}

}  // namespace
}  // namespace twinwalk
