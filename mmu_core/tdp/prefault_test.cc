#include "mmu_core/tdp/prefault.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

constexpr Gpa kPage{0x40'3000};

class TdpPrefault : public ::testing::TestWithParam<TdpMachine> {
 protected:
  u64 prefault(Gpa gpa, u64 pages) {
    const u64 n = g_.cpu().prefault(gpa, pages);
    g_.audit();
    return n;
  }
  TdpGuest g_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(, TdpPrefault, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpPrefault, WhatWasAskedForNeedsNoFault) {
  EXPECT_EQ(prefault(kPage, 20), 20u);
  for (u64 i = 0; i < 20; ++i) EXPECT_EQ(g_.read(kPage + i * kPageSize).faults, 0u);
  EXPECT_EQ(g_.read(kPage + 20 * kPageSize).faults, 1u);
}

TEST_P(TdpPrefault, EndsWhereThereIsNoMemory) {
  EXPECT_EQ(prefault(Gpa{(TdpGuest::kPages - 3) * kPageSize}, 8), 3u);
}

TEST_P(TdpPrefault, EndsWhereNoTableIsLeft) {
  g_.read(kPage);
  g_.platform.table_source = LimitedPages(0);
  g_.platform.object_source = LimitedPages(0);
  EXPECT_LT(prefault(Gpa{0x80'0000}, 2048), 2048u);
}

TEST_P(TdpPrefault, LetsGoOfAnObsoleteRoot) {
  g_.read(kPage);
  g_.vm().zap_all();
  EXPECT_EQ(prefault(kPage, 4), 4u);
}

TEST_P(TdpPrefault, LetsGoOfARootThatBecomesObsoleteMeanwhile) {
  bool once = true;
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    g_.vm().zap_all();
  };
  EXPECT_EQ(prefault(kPage, 4), 4u);
  EXPECT_FALSE(once);
}

TEST_P(TdpPrefault, EndsWhileItsRangeIsInvalidated) {
  const Hva at = kTdpMemory + kPage.raw + 2 * kPageSize;
  g_.vm().notifier_begin(at, at + kPageSize);
  EXPECT_EQ(prefault(kPage, 4), 2u);
  g_.vm().notifier_end(at, at + kPageSize);
  EXPECT_EQ(prefault(kPage, 4), 4u);
}

}  // namespace
}  // namespace mmu::testing
