#include "mmu_core/tdp/dirty_ring.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

constexpr Gpa kPage{0x40'3000}, kOther{0x60'5000};

class TdpDirtyRing : public ::testing::TestWithParam<TdpMachine> {
 protected:
  static VmConfig config() {
    VmConfig c = GetParam().config();
    c.vcpus = 2;
    c.options.dirty_ring = true;
    return c;
  }
  void SetUp() override {
    ASSERT_TRUE(g_.cpu(0).enter().ok);
    ASSERT_TRUE(g_.cpu(1).enter().ok);
    ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  }
  std::vector<Gfn> take(u32 vcpu = 0, u32 most = 4096) {
    std::vector<Gfn> gfns(most);
    gfns.resize(g_.cpu(vcpu).take_dirty_ring(gfns.data(), most));
    return gfns;
  }
  TdpGuest g_{GetParam(), config()};
};
INSTANTIATE_TEST_SUITE_P(, TdpDirtyRing, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpDirtyRing, EachVcpuHasItsOwn) {
  g_.write(kPage, 1, 0);
  g_.write(kOther, 1, 1);
  EXPECT_EQ(take(0), std::vector{Gfn::of(kPage)});
  EXPECT_EQ(take(1), std::vector{Gfn::of(kOther)});
  EXPECT_TRUE(take(0).empty());
  EXPECT_EQ(g_.take_log(), (std::vector{Gfn::of(kPage), Gfn::of(kOther)})) << "and the log has it";
}

TEST_P(TdpDirtyRing, HostSaysHowManyMayWait) {
  VmConfig c = config();
  for (const u32 limit : {2u, 5u, DirtyRing::kRoom}) {
    c.dirty_ring_limit = limit;
    TdpGuest g(GetParam(), c);
    ASSERT_TRUE(g.cpu().enter().ok);
    ASSERT_EQ(g.set_flags(0, false, true), Status::kOk);
    u64 pages = 0;
    while (!g.cpu().enter().ring_full) g.cpu().write_physical(Gpa{pages++ << 12}, 8, 5);
    EXPECT_EQ(pages, limit < DirtyRing::kHalfFull ? limit : DirtyRing::kHalfFull);
    Gfn gfn;
    EXPECT_EQ(g.cpu().take_dirty_ring(&gfn, 1), 1u);
    EXPECT_TRUE(g.cpu().enter().ok);
  }
}

TEST_P(TdpDirtyRing, WhatTheCoreStoresForTheGuestIsThere) {
  ASSERT_EQ(g_.cpu().write_physical(kOther, 8, 1).kind, EmulateResult::Kind::kDone);
  EXPECT_EQ(take(), std::vector{Gfn::of(kOther)});
  ASSERT_TRUE(g_.cpu().set_sregs(Sregs{cr0::kPe | cr0::kEt, 0, 0, 0}));  // a gva is a gpa
  ASSERT_EQ(g_.cpu().emulate(Gva{kPage.raw}, Access::kRmw, 8, 1, false).kind,
            EmulateResult::Kind::kDone);
  EXPECT_EQ(take(), std::vector{Gfn::of(kPage)});
}

TEST_P(TdpDirtyRing, StoreComesBeforeTheFirstEntry) {
  VmConfig c = config();
  TdpGuest g(GetParam(), c);
  ASSERT_EQ(g.set_flags(0, false, true), Status::kOk);
  ASSERT_EQ(g.cpu().write_physical(kPage, 8, 1).kind, EmulateResult::Kind::kDone);
  Gfn gfn;
  EXPECT_EQ(g.cpu().take_dirty_ring(&gfn, 1), 1u);
  EXPECT_EQ(gfn, Gfn::of(kPage));
}

TEST_P(TdpDirtyRing, OldestComesFirst) {
  g_.write(kOther);
  g_.write(kPage);
  EXPECT_EQ(take(0, 1), std::vector{Gfn::of(kOther)});
  EXPECT_EQ(take(0, 1), std::vector{Gfn::of(kPage)});
}

TEST_P(TdpDirtyRing, PageIsThereAgainAfterTheLogWasTaken) {
  g_.write(kPage);
  take();
  g_.take_log();
  g_.write(kPage);
  g_.take_log();  // the hardware's own log is read with it
  EXPECT_EQ(take(), std::vector{Gfn::of(kPage)});
}

TEST_P(TdpDirtyRing, EmulatedStores) {
  g_.cpu().write_physical(kPage, 8, 5);
  EXPECT_EQ(take(), std::vector{Gfn::of(kPage)});
}

TEST_P(TdpDirtyRing, TablesThatAnEmulatedAccessUsed) {
  // One 4-level path at 0: its tables get A.
  constexpr u64 kTable = 0x1'0000;
  for (u64 i = 0; i < 4; ++i)
    g_.platform.store(kTdpMemory + kTable + i * kPageSize, (kTable + (i + 1) * kPageSize) | 7);
  ASSERT_TRUE(g_.cpu().set_cr3(kTable));
  ASSERT_EQ(g_.cpu().emulate(Gva{0}, Access::kRead, 8, 0, false).kind, EmulateResult::Kind::kDone);
  const std::vector<Gfn> dirty = g_.take_log(), ring = take();
  EXPECT_EQ(dirty.size(), 4u);
  for (const Gfn gfn : dirty)
    EXPECT_NE(std::find(ring.begin(), ring.end(), gfn), ring.end()) << std::hex << gfn.raw;
}

TEST_P(TdpDirtyRing, SpaceIsTold) {
  MemslotRequest r = g_.slot(1, Gfn{0}, 4096, kTdpMemory + (u64{1} << 34));
  r.space = 1;
  r.log_dirty = true;
  ASSERT_EQ(g_.set(r), Status::kOk);
  ASSERT_TRUE(g_.cpu().set_smm(true));
  g_.write(kPage);
  EXPECT_EQ(take(), std::vector{Gfn{Gfn::of(kPage).raw | u64{1} << 63}});
}

TEST_P(TdpDirtyRing, HalfFullRingIsTakenFirst) {
  for (u64 i = 0; i < DirtyRing::kHalfFull; ++i) g_.cpu().write_physical(Gpa{i << 12}, 8, 5);
  const EntryState e = g_.cpu(0).enter();
  EXPECT_FALSE(e.ok);
  EXPECT_TRUE(e.ring_full);
  EXPECT_TRUE(g_.cpu(1).enter().ok);
  EXPECT_EQ(take(0, 1).size(), 1u);
  EXPECT_TRUE(g_.cpu(0).enter().ok);
}

TEST_P(TdpDirtyRing, FullRingLosesNothingOfTheLog) {
  for (u64 i = 0; i < 3000; ++i) g_.cpu().write_physical(Gpa{i << 12}, 8, 5);
  EXPECT_EQ(take().size(), DirtyRing::kRoom);
  EXPECT_EQ(g_.take_log().size(), 3000u);
}

TEST_P(TdpDirtyRing, NoMemoryForItNoEntry) {
  TdpGuest g(GetParam(), config());
  g.platform.object_source = LimitedPages(2);  // the root
  EXPECT_FALSE(g.cpu().enter().ok);
  g.platform.object_source = LimitedPages();
  EXPECT_TRUE(g.cpu().enter().ok);
}

}  // namespace
}  // namespace mmu::testing
