#include "mmu_core/reclaim.h"

#include <gtest/gtest.h>

#include "mmu_core/reclaim.h"
#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kRights;
using testing::kUsed;
using testing::Outcome;

constexpr Gva kVa{0x1234'5660'0000};
constexpr Gpa kPage{0x40'0000};
constexpr u32 kQuota = 16;

// Each in a tree branch of its own: four shadow pages with the root, none but the root shared.
Gva deep(unsigned i) { return Gva{u64{i + 1} << 39 | u64{i} << 30 | u64{i} << 21 | u64{i} << 12}; }
Gpa page(unsigned i) { return kPage + i * kPageSize; }

VmConfig with_quota(u32 pages) {
  VmConfig config;
  config.quota = pages;
  return config;
}

u64 shadow_pages_in_use(Guest& g) { return g.stats().shadow_pages - g.stats().zaps; }

TEST(Quota, BoundsThePagesInUse) {
  Guest g(with_quota(kQuota));
  for (unsigned i = 0; i < 20; ++i) {
    g.map(deep(i), page(i));
    EXPECT_EQ(g.read(deep(i)), g.reaches(page(i))) << "branch " << i;
    EXPECT_LE(shadow_pages_in_use(g), kQuota) << "branch " << i;
  }
  EXPECT_GT(g.stats().recycled, 0u);
}

TEST(Quota, WhatWasReclaimedIsBuiltAgain) {
  Guest g(with_quota(kQuota));
  for (unsigned i = 0; i < 20; ++i) g.map(deep(i), page(i));
  for (unsigned round = 0; round < 3; ++round)
    for (unsigned i = 0; i < 20; ++i)
      EXPECT_EQ(g.read(deep(i)), g.reaches(page(i))) << "branch " << i;
}

TEST(Quota, SmallestIsEnoughForADeepTree) {
  Guest g(with_quota(1));  // raised to the least that the core can work with
  for (unsigned i = 0; i < 6; ++i) {
    g.map(deep(i), page(i));
    EXPECT_EQ(g.write(deep(i), i), g.reaches(page(i))) << "branch " << i;
  }
}

TEST(Quota, SmallestIsEnoughForFourVcpusWithPreviousRoots) {
  VmConfig config = with_quota(8);
  config.vcpus = 4;
  Guest g(config);
  Gpa root[4];
  for (Gpa& r : root) {
    r = g.new_table();
    g.map(r, kVa, kPage);
  }
  for (unsigned round = 0; round < 8; ++round)
    for (u32 vcpu = 0; vcpu < 4; ++vcpu) {
      ASSERT_TRUE(g.cpu(vcpu).set_cr3(root[(round + vcpu) % 4].raw));
      EXPECT_EQ(g.read(kVa, vcpu), g.reaches(kPage)) << "round " << round << " vcpu " << vcpu;
    }
}

// Four roots a vCPU, none of which can be taken away; each vCPU still gets both of its pages, one
// after the other, without the second taking the first.
TEST(Quota, SmallestIsEnoughForFourVcpusWithArrays) {
  VmConfig config = with_quota(1);
  config.vcpus = 4;
  Guest g(kPae, config);
  constexpr Gva kFar{0xffff'e000};
  Gpa root[4];
  for (Gpa& r : root) {
    r = g.new_table();
    for (u64 gib = 0; gib < 4; ++gib)
      g.map(r, Gva{gib << 30 | 0x1000}, page(static_cast<unsigned>(gib)));
    g.map(r, kFar, kPage);
  }
  for (unsigned round = 0; round < 3; ++round)
    for (u32 vcpu = 0; vcpu < 4; ++vcpu) {
      ASSERT_TRUE(g.cpu(vcpu).set_cr3(root[(round + vcpu) % 4].raw));
      EXPECT_EQ(g.read(Gva{0x1000}, vcpu), g.reaches(page(0))) << "vcpu " << vcpu;
      EXPECT_EQ(g.read(kFar, vcpu), g.reaches(kPage)) << "vcpu " << vcpu;
      EXPECT_EQ(g.read(Gva{0x1000}, vcpu).faults, 0u) << "vcpu " << vcpu;
    }
}

TEST(Quota, SmallestIsEnoughForFiveLevels) {
  VmConfig config = with_quota(1);
  config.caps.la57 = true;
  Guest g(k5Level, config);
  constexpr Gva kLow{0x1000}, kFar{0xff00'0000'0000'0000};
  g.map(kLow, page(0));
  g.map(kFar, page(1));
  EXPECT_EQ(g.read(kLow), g.reaches(page(0)));
  EXPECT_EQ(g.read(kFar), g.reaches(page(1)));
  EXPECT_EQ(g.read(kLow).faults, 0u);
}

TEST(Quota, SmallerOneTakesEffectAtOnce) {
  Guest g;
  for (unsigned i = 0; i < 20; ++i) {
    g.map(deep(i), page(i));
    g.read(deep(i));
  }
  ASSERT_GT(shadow_pages_in_use(g), kQuota);
  g.vm().set_quota(kQuota);
  g.audit();
  EXPECT_LE(shadow_pages_in_use(g), kQuota);
  EXPECT_EQ(g.read(deep(0)), g.reaches(page(0)));
}

TEST(Quota, LeavesTheRootInUse) {
  Guest g(with_quota(kQuota));
  g.map(deep(0), page(0));
  g.read(deep(0));
  const Hpa root = g.cpu().enter().root;
  for (unsigned i = 1; i < 20; ++i) {
    g.map(deep(i), page(i));
    g.read(deep(i));
  }
  EXPECT_EQ(g.cpu().enter().root, root);
}

TEST(Reclaim, GivesBackWhatIsAskedFor) {
  Guest g;
  for (unsigned i = 0; i < 8; ++i) {
    g.map(deep(i), page(i));
    g.read(deep(i));
  }
  const u64 before = shadow_pages_in_use(g);
  EXPECT_EQ(g.vm().reclaim(5), 5u);
  g.audit();
  EXPECT_EQ(shadow_pages_in_use(g), before - 5);
}

TEST(Reclaim, TakesTheOldestFirst) {
  Guest g;
  for (unsigned i = 0; i < 2; ++i) {
    g.map(deep(i), page(i));
    g.read(deep(i));
  }
  g.vm().reclaim(3);
  EXPECT_FALSE(g.translation(deep(0)).present);
  EXPECT_TRUE(g.translation(deep(1)).present);
}

TEST(Reclaim, GivesTablesBackToTheirSource) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  const std::size_t before = g.platform.tables_in_use();
  EXPECT_EQ(g.vm().reclaim(3), 3u);
  EXPECT_EQ(g.platform.tables_in_use(), before - 3);
}

TEST(Reclaim, FlushesBeforeATableIsFreed) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  g.platform.flushes.clear();
  g.vm().reclaim(1);
  EXPECT_FALSE(g.platform.flushes.empty());
}

TEST(Reclaim, OfNothingIsNothing) {
  Guest g;
  EXPECT_EQ(g.vm().reclaim(10), 0u);
  EXPECT_EQ(g.vm().reclaim(0), 0u);
}

TEST(Reclaim, FormerTableMayBeMappedLargeAgain) {
  Guest g;
  g.platform.back_large(testing::kMemory + kPage.raw, Pfn{0x200'0000}, 2);
  // The level-1 table of kVa lies inside the large page.
  g.map(kVa, page(0));
  const Gpa table = kPage + 0x9000;
  g.host_store(table, Gpa{0x60'0000}.raw | kUsed);
  g.host_store(g.entry(kVa, 2), table.raw | kRights);
  g.read(kVa);
  const Gva whole{0x7000'0000'0000};
  g.map(whole, kPage, kUsed, 2);
  g.read(whole);
  ASSERT_EQ(g.translation(whole).level, 1u);
  g.vm().reclaim(100);
  g.audit();
  g.read(whole);
  EXPECT_EQ(g.translation(whole).level, 2u);
}

TEST(FastZap, EverythingIsBuiltAgain) {
  Guest g;
  for (unsigned i = 0; i < 4; ++i) {
    g.map(deep(i), page(i));
    g.read(deep(i));
  }
  g.vm().zap_all();
  g.audit();
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(g.read(deep(i)), g.reaches(page(i))) << "branch " << i;
}

TEST(FastZap, Flushes) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  g.platform.flushes.clear();
  g.vm().zap_all();
  EXPECT_FALSE(g.platform.flushes.empty());
}

TEST(FastZap, UnderAFault) {
  for (const YieldPoint at :
       {YieldPoint::kAfterWalk, YieldPoint::kAfterFrame, YieldPoint::kAfterInstall}) {
    Guest g;
    g.map(kVa, kPage);
    bool once = true;
    g.platform.on_yield = [&](YieldPoint point, u32) {
      if (point != at || !once) return;
      once = false;
      g.vm().zap_all();
    };
    EXPECT_EQ(g.read(kVa), g.reaches(kPage)) << "yield point " << static_cast<int>(at);
    EXPECT_FALSE(once);
  }
}

TEST(FastZap, TwiceWithoutAnEntryInBetween) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  g.vm().zap_all();
  g.vm().zap_all();
  g.audit();
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
}

// KVM once looked whether the root is stale before it made pages available, which may zap the root.
TEST(Reclaim, MakingRoomIsBeforeTheLookAtTheRoot) {
  Guest g(with_quota(8));
  for (unsigned i = 0; i < 8; ++i) g.map(deep(i), page(i));
  bool once = true;
  for (unsigned i = 0; i < 8; ++i) {
    g.platform.on_yield = [&](YieldPoint point, u32) {
      if (point != YieldPoint::kAfterFrame || !once) return;
      once = false;
      g.vm().zap_all();  // the root in use is now invalid and counts against the quota
    };
    once = true;
    EXPECT_EQ(g.read(deep(i)), g.reaches(page(i))) << "branch " << i;
  }
}

// The second resort: roots that are kept for later hold what the fault needs.
TEST(Reclaim, PreviousRootsGoWhenNothingElseIsLeft) {
  Guest g;
  for (u32 i = 0; i < kPreviousRoots; ++i) {
    g.translation(kVa);
    EXPECT_TRUE(g.cpu().set_cr3(g.new_table().raw));
  }
  g.map(Gpa{g.cpu().cr3()}, kVa, kPage);
  g.translation(kVa);
  VmState& vm = g.state();
  const u32 roots = 1 + kPreviousRoots;
  ASSERT_EQ(vm.pages.used, roots);
  vm.config.quota = roots + reclaim::kMinFree - 1;
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
  for (const Root& r : vm.vcpu[0].previous) EXPECT_FALSE(r.valid());
}

TEST(Reclaim, WithoutRoomForAFaultThereIsNoMemory) {
  Guest g;
  g.map(kVa, kPage);
  g.translation(kVa);
  g.state().config.quota = reclaim::kMinFree;
  EXPECT_EQ(g.read(kVa).kind, testing::Outcome::Kind::kNoMemory);
}

}  // namespace
}  // namespace mmu
