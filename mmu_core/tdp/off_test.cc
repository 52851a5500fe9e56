// Without two-dimensional paging: what TdpEvents.RegistersReachNoMmu does reaches it.

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

constexpr Gpa kPage{0x40'3000};

TEST(TdpOff, RegistersReachTheMmu) {
  testing::Guest g;
  const Gva gva{0x5000};
  g.map(gva, kPage);
  g.read(gva);
  const Hpa root = g.cpu().enter().root;
  g.platform.flushes.clear();
  g.cpu().invlpg(gva);
  EXPECT_FALSE(g.platform.flushes.empty());
  EXPECT_TRUE(g.cpu().set_cr3(0x7000));
  EXPECT_NE(g.cpu().enter().root, root);
}

TEST(TdpOffDeathTest, FaultOfADimensionThatIsNotThere) {
  testing::Guest g;
  EXPECT_DEATH(g.cpu().handle_tdp_fault(TdpFault{}), "a fault of a dimension that is not there");
}

}  // namespace
}  // namespace mmu
