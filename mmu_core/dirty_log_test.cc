#include "mmu_core/dirty_log.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;

constexpr Gva kVa{0x1234'5660'0000}, kAlias{0x2345'6660'0000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};
constexpr u64 kWords = Guest::kPages / 64;

using Gfns = std::set<u64>;

Status set_logging(Guest& g, bool on) {
  return g.slot_request(MemslotRequest::Kind::kFlags, 0, Gfn{}, false, on);
}

// Collects slot 0's log.
Gfns dirty(Guest& g) {
  std::vector<u64> bitmap(kWords);
  EXPECT_TRUE(g.vm().get_dirty_log(0, 0, bitmap.data(), bitmap.size()));
  g.audit();
  Gfns gfns;
  for (u64 gfn = 0; gfn < Guest::kPages; ++gfn)
    if (bitmap[gfn / 64] >> gfn % 64 & 1) gfns.insert(gfn);
  return gfns;
}

u64 gfn_of(Gpa gpa) { return Gfn::of(gpa).raw; }

// Logging is on, kVa is mapped and dirty in the guest's eyes, the log is empty.
class DirtyLog : public ::testing::Test {
 protected:
  DirtyLog() {
    guest_.map(kVa, kPage);
    guest_.read(kVa);
    EXPECT_EQ(set_logging(guest_, true), Status::kOk);
    dirty(guest_);
  }
  Guest guest_;
};

TEST_F(DirtyLog, StartsEmpty) { EXPECT_EQ(dirty(guest_), Gfns{}); }

TEST_F(DirtyLog, HoldsWhatWasWritten) {
  guest_.write(kVa, 1);
  EXPECT_EQ(dirty(guest_), Gfns{gfn_of(kPage)});
}

TEST_F(DirtyLog, IsEmptyAfterItWasCollected) {
  guest_.write(kVa, 1);
  dirty(guest_);
  EXPECT_EQ(dirty(guest_), Gfns{});
}

TEST_F(DirtyLog, HoldsWhatIsWrittenAgain) {
  guest_.write(kVa, 1);
  dirty(guest_);
  guest_.write(kVa, 2);
  EXPECT_EQ(dirty(guest_), Gfns{gfn_of(kPage)});
}

TEST_F(DirtyLog, CollectingTakesTheWriteRightAndFlushes) {
  guest_.write(kVa, 1);
  ASSERT_TRUE(guest_.translation(kVa).writable());
  guest_.platform.flushes.clear();
  dirty(guest_);
  EXPECT_FALSE(guest_.platform.flushes.empty());
  EXPECT_FALSE(guest_.translation(kVa).writable());
}

TEST_F(DirtyLog, CollectingAnIdleGuestFlushesNothing) {
  guest_.platform.flushes.clear();
  dirty(guest_);
  EXPECT_TRUE(guest_.platform.flushes.empty());
}

TEST_F(DirtyLog, WritesThroughEveryMappingCount) {
  guest_.map(kAlias, kPage);
  guest_.write(kVa, 1);
  guest_.write(kAlias, 1);
  dirty(guest_);
  guest_.write(kAlias, 2);
  EXPECT_EQ(dirty(guest_), Gfns{gfn_of(kPage)});
}

TEST_F(DirtyLog, NeighboursAreNotMadeDirtyByPrefetch) {
  guest_.map(kVa + 0x1000, kOther);
  guest_.write(kVa, 1);
  EXPECT_EQ(dirty(guest_).count(gfn_of(kOther)), 0u);
}

TEST_F(DirtyLog, EmulatedStoreCounts) {
  guest_.write_physical(kOther + 16, 1);
  EXPECT_EQ(dirty(guest_), Gfns{gfn_of(kOther)});
}

TEST_F(DirtyLog, EmulatedStoreAcrossAPageCountsTwice) {
  guest_.write_physical(kOther + 0xffc, 1);
  EXPECT_EQ(dirty(guest_), (Gfns{gfn_of(kOther), gfn_of(kOther) + 1}));
}

TEST_F(DirtyLog, AccessedBitMarksTheTable) {
  guest_.map(kVa + 0x20000, kOther, kRights);
  guest_.read(kVa + 0x20000);
  EXPECT_EQ(dirty(guest_), Gfns{gfn_of(guest_.entry(kVa, 1))});
}

TEST_F(DirtyLog, DirtyBitMarksTheTable) {
  guest_.map(kVa + 0x20000, kOther, kRights | pte::kA);
  guest_.write(kVa + 0x20000, 1);
  EXPECT_EQ(dirty(guest_), (Gfns{gfn_of(guest_.entry(kVa, 1)), gfn_of(kOther)}));
}

TEST_F(DirtyLog, TableEditMarksTheTable) {
  const Gpa table = guest_.table_of(kVa);
  guest_.map(kAlias, table);
  guest_.read(kAlias);
  dirty(guest_);
  guest_.write(kAlias + 0x800, kOther.raw | kUsed);
  EXPECT_EQ(dirty(guest_).count(gfn_of(table)), 1u);
  guest_.write(kAlias + 0x808, kOther.raw | kUsed);  // unsync, written once more
  EXPECT_EQ(dirty(guest_).count(gfn_of(table)), 1u);
}

TEST_F(DirtyLog, LargePageIsLoggedByItsParts) {
  guest_.platform.back_large(kMemory + kOther.raw, Pfn{0x200'0000}, 2);
  guest_.map(kAlias, kOther, kUsed, 2, kRights | pte::kA);  // A is set: no table is written
  guest_.write(kAlias + 0x5000, 1);
  EXPECT_EQ(dirty(guest_), Gfns{gfn_of(kOther) + 5});
  EXPECT_EQ(guest_.translation(kAlias + 0x5000).level, 1u);
}

TEST(DirtyLogOn, TakesTheWriteRightOfLargePages) {
  Guest g;
  g.platform.back_large(kMemory + kPage.raw, Pfn{0x200'0000}, 2);
  g.map(kVa, kPage, kUsed, 2);
  g.write(kVa, 1);
  ASSERT_TRUE(g.translation(kVa).writable());
  ASSERT_EQ(set_logging(g, true), Status::kOk);
  EXPECT_FALSE(g.translation(kVa).writable());
  g.write(kVa + 0x7000, 2);
  EXPECT_EQ(dirty(g), Gfns{gfn_of(kPage) + 7});
}

TEST(DirtyLogOn, FlushesBeforeItReturns) {
  Guest g;
  g.map(kVa, kPage);
  g.write(kVa, 1);
  g.platform.flushes.clear();
  ASSERT_EQ(set_logging(g, true), Status::kOk);
  EXPECT_FALSE(g.platform.flushes.empty());
}

TEST(DirtyLogOn, ForgetsWhatWasLoggedBefore) {
  Guest g;
  g.map(kVa, kPage);
  ASSERT_EQ(set_logging(g, true), Status::kOk);
  g.write(kVa, 1);
  ASSERT_EQ(set_logging(g, false), Status::kOk);
  ASSERT_EQ(set_logging(g, true), Status::kOk);
  EXPECT_EQ(dirty(g), Gfns{});
  g.write(kVa, 1);
  EXPECT_EQ(dirty(g), Gfns{gfn_of(kPage)});
}

TEST(DirtyLogOn, SlotIsSwappedUnderAFault) {
  Guest g;
  g.map(kVa, kPage);
  bool once = true;
  g.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    EXPECT_EQ(set_logging(g, true), Status::kOk);
  };
  EXPECT_EQ(g.write(kVa, 1), g.reaches(kPage));
  EXPECT_EQ(dirty(g).count(gfn_of(kPage)), 1u) << "written after logging began";
}

TEST(DirtyLogCall, IsRefusedWithoutALog) {
  Guest g;
  u64 bitmap[kWords] = {};
  EXPECT_FALSE(g.vm().get_dirty_log(0, 0, bitmap, kWords)) << "not logging";
  EXPECT_FALSE(g.vm().get_dirty_log(0, 1, bitmap, kWords)) << "no such slot";
  EXPECT_FALSE(g.vm().get_dirty_log(0, kMaxMemslots, bitmap, kWords)) << "no such id";
  ASSERT_EQ(set_logging(g, true), Status::kOk);
  EXPECT_FALSE(g.vm().get_dirty_log(0, 0, bitmap, kWords - 1)) << "wrong size";
}

}  // namespace
}  // namespace mmu
