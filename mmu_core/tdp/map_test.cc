#include "mmu_core/tdp/map.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using Kind = TdpOutcome::Kind;

constexpr Gpa kPage{0x40'3000}, kOther{0x60'5000}, kNoMemory{0x8000'0000}, kLarge{0x80'0000};

class TdpMap : public ::testing::TestWithParam<TdpMachine> {
 protected:
  TdpGuest g_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(, TdpMap, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpMap, ReadReachesItsFrame) { EXPECT_EQ(g_.read(kPage), g_.reaches(kPage)); }

TEST_P(TdpMap, WriteReachesItsFrame) {
  EXPECT_EQ(g_.write(kPage, 0x77), g_.reaches(kPage));
  EXPECT_EQ(g_.platform.load(kTdpMemory + kPage.raw), 0x77u);
}

TEST_P(TdpMap, FetchReachesItsFrame) { EXPECT_EQ(g_.fetch(kPage), g_.reaches(kPage)); }

TEST_P(TdpMap, OneFaultIsEnough) {
  EXPECT_EQ(g_.read(kPage).faults, 1u);
  EXPECT_EQ(g_.write(kPage).faults, 0u);
  EXPECT_EQ(g_.fetch(kPage).faults, 0u);
}

TEST_P(TdpMap, NeighboursShareTheirTables) {
  g_.read(kPage);
  const u64 tables = g_.state().tdp.tables;
  g_.read(kPage + kPageSize);
  EXPECT_EQ(g_.state().tdp.tables, tables);
}

TEST_P(TdpMap, VcpusShareTheRoot) {
  VmConfig c = GetParam().config();
  c.vcpus = 2;
  TdpGuest g(GetParam(), c);
  g.read(kPage, 0);
  EXPECT_EQ(g.read(kPage, 1).faults, 0u);
  EXPECT_EQ(g.cpu(0).enter().root, g.cpu(1).enter().root);
}

TEST_P(TdpMap, WhatIsNoMemoryIsMmio) {
  EXPECT_EQ(g_.read(kNoMemory), ended(Kind::kMmio));
  EXPECT_EQ(g_.write(kNoMemory), ended(Kind::kMmio));
}

TEST_P(TdpMap, MmioEntryAnswersTheNextAccess) {
  g_.read(kNoMemory);
  EXPECT_TRUE(g_.walk(kNoMemory).error);
  const u64 lookups = g_.events(TdpEvent::kMmioHit);
  g_.write(kNoMemory);
  EXPECT_EQ(g_.events(TdpEvent::kMmioHit), lookups + 1);
}

TEST_P(TdpMap, MmioEntryOfAnOlderGenerationAnswersNothing) {
  g_.read(kNoMemory);
  ASSERT_EQ(g_.set(g_.slot(1, Gfn::of(kNoMemory), 16, kTdpMemory + (u64{1} << 34))), Status::kOk);
  EXPECT_EQ(g_.read(kNoMemory).kind, Kind::kOk);
}

TEST_P(TdpMap, GuestTableInNoMemoryIsEmulated) {
  EXPECT_EQ(g_.access(kNoMemory, Access::kRead, 0, 0, true), ended(Kind::kEmulate));
}

TEST_P(TdpMap, ReadOnlySlotIsReadAndExecuted) {
  ASSERT_EQ(g_.set_flags(0, true, false), Status::kOk);
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.fetch(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.write(kPage), ended(Kind::kMmio));
  EXPECT_EQ(g_.access(kPage, Access::kWrite, 0, 0, true), ended(Kind::kEmulate));
}

TEST_P(TdpMap, FrameOfTheHostsThatIsReadOnly) {
  g_.platform.host_page(kTdpMemory + kPage.raw).writable = false;
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.write(kPage), ended(Kind::kMmio));
}

TEST_P(TdpMap, NoFrame) {
  g_.platform.host_page(kTdpMemory + kPage.raw).kind = FrameLookup::Kind::kNoFrame;
  EXPECT_EQ(g_.read(kPage), ended(Kind::kNoMemory));
  g_.platform.host_page(kTdpMemory + kPage.raw).kind = FrameLookup::Kind::kPoisoned;
  EXPECT_EQ(g_.read(kPage), ended(Kind::kPoisoned));
}

TEST_P(TdpMap, LargeHostPageIsMappedLarge) {
  g_.back_large(kLarge, 2);
  EXPECT_EQ(g_.read(kLarge + 0x12'3000), g_.reaches(kLarge + 0x12'3000));
  EXPECT_EQ(g_.walk(kLarge).level, 2u);
  EXPECT_EQ(g_.write(kLarge + 0x1f'f000).faults, 0u);
}

TEST_P(TdpMap, LargeHostPageBeyondTheSlotIsMappedSmall) {
  TdpGuest g(GetParam(), GetParam().config(), (kLarge.raw + 0x10'0000) >> 12);
  g.back_large(kLarge, 2);
  EXPECT_EQ(g.read(kLarge), g.reaches(kLarge));
  EXPECT_EQ(g.walk(kLarge).level, 1u);
}

TEST_P(TdpMap, LargeHostPageOutOfStepIsMappedSmall) {
  const Hva hva = kTdpMemory + (u64{1} << 34) + kPageSize;
  ASSERT_EQ(g_.set(g_.slot(1, Gfn::of(kNoMemory), 2048, hva)), Status::kOk);
  g_.platform.back_large(hva + 0x20'0000, Pfn{0x200'0000}, 2);
  EXPECT_EQ(g_.read(kNoMemory + 0x20'0000).kind, Kind::kOk);
  EXPECT_EQ(g_.walk(kNoMemory + 0x20'0000).level, 1u);
}

TEST_P(TdpMap, WithoutLargePagesAllAreSmall) {
  VmConfig c = GetParam().config();
  c.options.large_pages = false;
  TdpGuest g(GetParam(), c);
  g.back_large(kLarge, 2);
  g.read(kLarge);
  EXPECT_EQ(g.walk(kLarge).level, 1u);
}

TEST_P(TdpMap, HardwareWithout2MHasSmallPages) {
  VmConfig c = GetParam().config();
  c.tdp.large_2m = false;
  TdpGuest g(GetParam(), c);
  g.back_large(kLarge, 2);
  EXPECT_EQ(g.read(kLarge), g.reaches(kLarge));
  EXPECT_EQ(g.walk(kLarge).level, 1u);
}

TEST_P(TdpMap, HugeHostPageIsMappedAsLargeAsTheHardwareCan) {
  constexpr u64 kGig = u64{1} << 18;
  TdpGuest g(GetParam(), GetParam().config(), kGig * 2);
  g.back_large(Gpa{u64{1} << 30}, 3);
  const Gpa inside{(u64{1} << 30) + 0x1234'5000};
  EXPECT_EQ(g.read(inside), g.reaches(inside));
  EXPECT_EQ(g.walk(inside).level, GetParam().levels == 3 ? 2u : 3u);
}

TEST_P(TdpMap, LargeLeafTakesThePlaceOfATable) {
  g_.read(kLarge);
  g_.read(kLarge + 0x5000);
  g_.vm().notifier_begin(kTdpMemory + kLarge.raw, kTdpMemory + kLarge.raw + 0x20'0000);
  g_.back_large(kLarge, 2);
  g_.vm().notifier_end(kTdpMemory + kLarge.raw, kTdpMemory + kLarge.raw + 0x20'0000);
  const u64 tables = g_.state().tdp.tables;
  g_.platform.flushes.clear();
  EXPECT_EQ(g_.read(kLarge + 0x5000), g_.reaches(kLarge + 0x5000));
  EXPECT_EQ(g_.walk(kLarge).level, 2u);
  EXPECT_EQ(g_.state().tdp.tables, tables - 1);
  EXPECT_FALSE(g_.platform.flushes.empty());
}

using TdpMap1G = TdpMap;
INSTANTIATE_TEST_SUITE_P(, TdpMap1G, ::testing::ValuesIn(machines([](const TdpMachine& m) {
                           return m.levels > 3;
                         })),
                         tdp_name);

TEST_P(TdpMap1G, HugeLeafTakesThePlaceOfATree) {
  constexpr u64 kGig = u64{1} << 30;
  TdpGuest g(GetParam(), GetParam().config(), kGig * 2 / kPageSize);
  const Hva start = kTdpMemory + kGig;
  for (u64 i = 0; i < 5; ++i) g.read(Gpa{kGig + i * 0x40'0000});
  const u64 tables = g.state().tdp.tables;
  g.vm().notifier_begin(start, start + kGig);
  g.back_large(Gpa{kGig}, 3);
  g.vm().notifier_end(start, start + kGig);
  EXPECT_EQ(g.read(Gpa{kGig}), g.reaches(Gpa{kGig}));
  EXPECT_EQ(g.walk(Gpa{kGig}).level, 3u);
  EXPECT_EQ(g.state().tdp.tables, tables - 6) << "a directory and its five tables";
}

TEST_P(TdpMap, FaultThatMeetsAFrozenEntryIsTriedAgain) {
  g_.read(kPage);
  const TdpWalk w = g_.walk(kPage);
  const u64 was = g_.entry_at(w);
  g_.entry_at(w) = tdp::kFrozen;
  TdpFault fault;
  fault.gpa = kPage;
  fault.read = true;
  EXPECT_EQ(g_.cpu().handle_tdp_fault(fault).kind, FaultResult::Kind::kRetry);
  EXPECT_EQ(g_.entry_at(w), tdp::kFrozen);
  EXPECT_EQ(g_.events(TdpEvent::kFrozenSeen), 1u);
  g_.entry_at(w) = was;
}

// Another vCPU maps the same gfn, or its neighbour, while an entry is frozen for the first one.
TEST_P(TdpMap, TwoVcpusBuildTheSamePath) {
  VmConfig c = GetParam().config();
  c.vcpus = 2;
  TdpGuest g(GetParam(), c);
  EXPECT_TRUE(g.cpu(1).enter().ok);
  for (const YieldPoint at : {YieldPoint::kFrozen, YieldPoint::kBeforeInstall}) {
    unsigned meetings = 0;
    g.invalidate(kPage);
    g.platform.on_yield = [&](YieldPoint point, u32) {
      if (point != at || g.platform.running) return;
      ++meetings;
      g.platform.running = 1;
      TdpFault fault;
      fault.gpa = kPage;
      fault.read = true;
      EXPECT_EQ(g.cpu(1).handle_tdp_fault(fault).kind, FaultResult::Kind::kRetry);
      g.platform.running = 0;
    };
    EXPECT_EQ(g.read(kPage), g.reaches(kPage));
    g.platform.on_yield = nullptr;
    EXPECT_GT(meetings, 0u) << "yield point " << static_cast<int>(at);
  }
  EXPECT_GT(g.events(TdpEvent::kFrozenSeen) + g.events(TdpEvent::kLostRace), 0u);
}

TEST_P(TdpMap, NothingIsMappedWhileItsRangeIsInvalidated) {
  const Hva start = kTdpMemory + kPage.raw;
  g_.vm().notifier_begin(start, start + kPageSize);
  EXPECT_EQ(g_.read(kPage).kind, Kind::kStuck);
  EXPECT_EQ(g_.read(kOther), g_.reaches(kOther));
  g_.vm().notifier_end(start, start + kPageSize);
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
}

TEST_P(TdpMap, LargePageIsNotMappedOverARangeThatIsInvalidated) {
  g_.back_large(kLarge, 2);
  const Hva start = kTdpMemory + kLarge.raw + 0x5000;
  g_.vm().notifier_begin(start, start + kPageSize);
  EXPECT_EQ(g_.read(kLarge), g_.reaches(kLarge));
  EXPECT_EQ(g_.walk(kLarge).level, 1u);
  g_.vm().notifier_end(start, start + kPageSize);
}

TEST_P(TdpMap, FaultIsTriedAgainAfterAnInvalidationUnderneath) {
  bool once = true;
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    const Hva at = kTdpMemory + kPage.raw;
    g_.vm().notifier_begin(at, at + kPageSize);
    g_.platform.migrate(at);
    g_.vm().notifier_end(at, at + kPageSize);
  };
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
  EXPECT_FALSE(once);
}

TEST_P(TdpMap, NoTableNoMapping) {
  ASSERT_TRUE(g_.cpu().enter().ok);
  g_.platform.table_source = LimitedPages(1);
  EXPECT_EQ(g_.read(kPage), ended(Kind::kNoMemory));
  g_.platform.table_source = LimitedPages();
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
}

TEST_P(TdpMap, NoTableNoRoot) {
  g_.platform.table_source = LimitedPages(0);
  EXPECT_EQ(g_.read(kPage), ended(Kind::kNoRoot));
  g_.platform.table_source = LimitedPages();
  g_.platform.object_source = LimitedPages(1);
  EXPECT_EQ(g_.read(kPage), ended(Kind::kNoRoot));
}

}  // namespace
}  // namespace mmu::testing
