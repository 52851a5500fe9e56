#include "mmu_core/notifier.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kUsed;
using testing::Outcome;

constexpr Gva kVa{0x1234'5660'0000}, kFar{0x2345'6660'0000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};

Hva hva_of(Gpa gpa) { return kMemory + gpa.raw; }

void begin(Guest& g, Gpa gpa, u64 bytes = kPageSize) {
  g.vm().notifier_begin(hva_of(gpa), hva_of(gpa) + bytes);
  g.audit();
}

void end(Guest& g, Gpa gpa, u64 bytes = kPageSize) {
  g.vm().notifier_end(hva_of(gpa), hva_of(gpa) + bytes);
  g.audit();
}

void migrate(Guest& g, Gpa gpa) { g.migrate(hva_of(gpa)); }

TEST(Notifier, BeginTakesTheTranslationAway) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  begin(g, kPage);
  EXPECT_FALSE(g.translation(kVa).present);
  end(g, kPage);
}

TEST(Notifier, BeginLeavesItsNeighbours) {
  Guest g;
  g.map(kVa, kPage);
  g.map(kVa + 0x1000, kPage + 0x1000);
  g.map(kVa + 0x2000, kPage + 0x2000);
  g.read(kVa);
  begin(g, kPage + 0x1000);
  EXPECT_TRUE(g.translation(kVa).present);
  EXPECT_FALSE(g.translation(kVa + 0x1000).present);
  EXPECT_TRUE(g.translation(kVa + 0x2000).present);
  end(g, kPage + 0x1000);
}

TEST(Notifier, BeginFlushesBeforeItReturns) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  g.platform.flushes.clear();
  begin(g, kPage);
  EXPECT_FALSE(g.platform.flushes.empty());
  end(g, kPage);
}

TEST(Notifier, UnmappedRangeNeedsNoFlush) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  g.platform.flushes.clear();
  migrate(g, kOther);
  EXPECT_TRUE(g.platform.flushes.empty());
}

TEST(Notifier, NewFrameIsUsedAfterTheMove) {
  Guest g;
  g.map(kVa, kPage);
  g.write(kVa, 0x77);
  const Pfn old = g.frame(kPage);
  migrate(g, kPage);
  ASSERT_NE(g.frame(kPage), old);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
  EXPECT_EQ(g.read(kVa).value, 0x77u);
}

TEST(Notifier, EveryMappingOfTheFrameGoes) {
  Guest g;
  for (u64 i = 0; i < 40; ++i) {
    g.map(kVa + i * 0x20'0000, kPage);
    g.read(kVa + i * 0x20'0000);
  }
  migrate(g, kPage);
  for (u64 i = 0; i < 40; ++i)
    EXPECT_FALSE(g.translation(kVa + i * 0x20'0000).present) << "mapping " << i;
}

TEST(Notifier, EverySlotThatSharesTheHvaLosesIt) {
  Guest g;
  constexpr Gpa kSecond{0x1000'0000};
  g.add_slot(1, Gfn::of(kSecond), 16, hva_of(kPage));
  g.map(kVa, kPage);
  g.map(kFar, kSecond);
  g.read(kVa);
  g.read(kFar);
  migrate(g, kPage);
  EXPECT_FALSE(g.translation(kVa).present);
  EXPECT_FALSE(g.translation(kFar).present);
}

TEST(Notifier, PartOfALargePageTakesItWhole) {
  Guest g;
  g.platform.back_large(hva_of(kPage), Pfn{0x200'0000}, 2);
  g.map(kVa, kPage, kUsed, 2);
  g.read(kVa);
  ASSERT_EQ(g.translation(kVa).level, 2u);
  begin(g, kPage + 0x5000);
  EXPECT_FALSE(g.translation(kVa).present);
  end(g, kPage + 0x5000);
}

TEST(Notifier, MovedGuestTableIsReadFromItsNewFrame) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  migrate(g, g.table_of(kVa));
  g.write_physical(g.entry(kVa, 1), kOther.raw | kUsed);
  EXPECT_EQ(g.read(kVa), g.reaches(kOther));
}

TEST(Notifier, NothingIsInstalledWhileInProgress) {
  Guest g;
  g.map(kVa, kPage);
  begin(g, kPage);
  EXPECT_EQ(g.read(kVa).kind, Outcome::Kind::kStuck);
  end(g, kPage);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
}

TEST(Notifier, OtherRangesGoOnWhileInProgress) {
  Guest g;
  g.map(kVa, kPage);
  begin(g, kOther);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
  end(g, kOther);
}

TEST(Notifier, PrefetchLeavesTheRangeInProgressOut) {
  Guest g;
  g.map(kVa, kPage);
  g.map(kVa + 0x1000, kOther);
  begin(g, kOther);
  g.read(kVa);
  EXPECT_FALSE(g.translation(kVa + 0x1000).present);
  end(g, kOther);
}

TEST(Notifier, LargePageIsNotInstalledOverARangeInProgress) {
  Guest g;
  g.platform.back_large(hva_of(kPage), Pfn{0x200'0000}, 2);
  g.map(kVa, kPage, kUsed, 2);
  begin(g, kPage + 0x5000);
  g.read(kVa);
  EXPECT_NE(g.translation(kVa).level, 2u);
  end(g, kPage + 0x5000);
}

TEST(Notifier, RangesInProgressAddUp) {
  Guest g;
  g.map(kVa, kPage);
  begin(g, kPage);
  begin(g, kOther);
  end(g, kOther);
  EXPECT_EQ(g.read(kVa).kind, Outcome::Kind::kStuck) << "the first is still in progress";
  end(g, kPage);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
}

TEST(Notifier, FaultRetriesAfterAWholeInvalidationUnderneath) {
  for (const YieldPoint at : {YieldPoint::kAfterWalk, YieldPoint::kAfterFrame}) {
    Guest g;
    g.map(kVa, kPage);
    bool once = true;
    g.platform.on_yield = [&](YieldPoint point, u32) {
      if (point != at || !once) return;
      once = false;
      migrate(g, kPage);
    };
    EXPECT_EQ(g.read(kVa), g.reaches(kPage)) << "yield point " << static_cast<int>(at);
    EXPECT_FALSE(once);
  }
}

TEST(Notifier, FaultRetriesWhileOneBeginsUnderneath) {
  Guest g;
  g.map(kVa, kPage);
  bool once = true;
  g.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    begin(g, kPage);
  };
  EXPECT_EQ(g.read(kVa).kind, Outcome::Kind::kStuck);
  g.platform.migrate(hva_of(kPage));
  end(g, kPage);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
}

TEST(NotifierDeathTest, EndWithoutBeginIsABrokenInvariant) {
  Guest g;
  EXPECT_DEATH(g.vm().notifier_end(kMemory, kMemory + kPageSize), "notifier end without begin");
}

bool is_young(Guest& g, Gpa gpa, bool clear) {
  const bool young = g.vm().age(hva_of(gpa), hva_of(gpa) + kPageSize, clear);
  g.audit();
  return young;
}

TEST(Age, PageInUseIsYoung) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  EXPECT_TRUE(is_young(g, kPage, false));
  EXPECT_TRUE(is_young(g, kPage, false)) << "asking alone changes nothing";
}

TEST(Age, UnmappedPageIsOld) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  EXPECT_FALSE(is_young(g, kOther, false));
}

TEST(Age, ClearedPageIsOldUntilItIsUsed) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  EXPECT_TRUE(is_young(g, kPage, true));
  EXPECT_FALSE(is_young(g, kPage, true));
  g.read(kVa);
  EXPECT_TRUE(is_young(g, kPage, true));
}

TEST(Age, KeepsTheTranslation) {
  Guest g;
  g.map(kVa, kPage);
  g.write(kVa, 1);
  is_young(g, kPage, true);
  EXPECT_EQ(g.write(kVa, 2).faults, 0u);
}

TEST(Age, LeavesTheGuestsAccessedBit) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  is_young(g, kPage, true);
  EXPECT_EQ(g.load(g.entry(kVa, 1)), kPage.raw | kUsed);
}

TEST(Age, LargePageCountsForEachOfItsParts) {
  Guest g;
  g.platform.back_large(hva_of(kPage), Pfn{0x200'0000}, 2);
  g.map(kVa, kPage, kUsed, 2);
  g.read(kVa);
  EXPECT_TRUE(is_young(g, kPage + 0x5000, false));
}

}  // namespace
}  // namespace mmu
