#include "mmu_core/unsync.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kRights;
using testing::kUsed;
using testing::Outcome;
using testing::page_fault;

constexpr Gva kVa{0x1234'5660'0000};
constexpr Gva kNeighbour = kVa + 0x20000;  // same table, not of the prefetch group
constexpr Gva kTableVa{0x7000'0000'0000};  // the guest's own mapping of that table
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};

// kVa's level-1 table is shadowed and mapped for the guest to edit.
class Unsync : public ::testing::Test {
 protected:
  Unsync() {
    guest_.map(kVa, kPage);
    guest_.map(kNeighbour, kPage + 0x1000);
    table_ = guest_.table_of(kVa);
    guest_.map(kTableVa, table_);
    guest_.read(kVa);
    guest_.read(kNeighbour);
  }
  static Gva edit_of(Gva gva) { return kTableVa + ((gva.raw >> 12) & 511) * 8; }
  // The guest stores the entry of gva with an ordinary instruction.
  Outcome edit(Gva gva, u64 value) { return guest_.write(edit_of(gva), value); }
  Pfn mapped(Gva gva) { return guest_.translation(gva).pfn; }

  Guest guest_;
  Gpa table_;
};

TEST_F(Unsync, CleanMappingOfATableIsReadOnly) {
  guest_.map(kTableVa, table_, kRights);
  guest_.read(kTableVa);
  EXPECT_FALSE(guest_.translation(kTableVa).writable());
  EXPECT_EQ(guest_.stats().unsyncs, 0u);
}

TEST_F(Unsync, FirstWriteMakesTheTableWritable) {
  EXPECT_FALSE(edit(kVa, kOther.raw | kUsed).emulated);
  EXPECT_TRUE(guest_.translation(kTableVa).writable());
  EXPECT_EQ(guest_.stats().unsyncs, 1u);
}

TEST_F(Unsync, SecondWriteNeedsNoExit) {
  edit(kVa, kOther.raw | kUsed);
  EXPECT_EQ(edit(kNeighbour, 0).faults, 0u);
}

TEST_F(Unsync, InvlpgBringsTheNewFrame) {
  edit(kVa, kOther.raw | kUsed);
  guest_.cpu().invlpg(kVa);
  guest_.audit();
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Unsync, InvlpgBringsTheFault) {
  edit(kVa, 0);
  guest_.cpu().invlpg(kVa);
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
}

TEST_F(Unsync, InvlpgTakesTheWriteRight) {
  guest_.write(kVa, 1);
  edit(kVa, kPage.raw | (kUsed & ~pte::kW));
  guest_.cpu().invlpg(kVa);
  EXPECT_EQ(guest_.write(kVa, 2), page_fault(pfec::kP | pfec::kW));
}

TEST_F(Unsync, InvlpgLetsTheDirtyBitBeSeenAgain) {
  guest_.write(kVa, 1);
  edit(kVa, kPage.raw | (kUsed & ~pte::kD));
  guest_.cpu().invlpg(kVa);
  guest_.write(kVa, 2);
  EXPECT_EQ(guest_.load(guest_.entry(kVa, 1)), kPage.raw | kUsed);
}

TEST_F(Unsync, InvlpgLetsTheAccessedBitBeSeenAgain) {
  edit(kVa, kPage.raw | (kUsed & ~pte::kA));
  guest_.cpu().invlpg(kVa);
  guest_.read(kVa);
  EXPECT_EQ(guest_.load(guest_.entry(kVa, 1)), kPage.raw | kUsed);
}

TEST_F(Unsync, InvlpgOfOneAddressLeavesItsNeighbours) {
  edit(kVa, 0);
  edit(kNeighbour, 0);
  guest_.cpu().invlpg(kVa);
  EXPECT_FALSE(guest_.translation(kVa).present);
  EXPECT_EQ(mapped(kNeighbour), guest_.frame(kPage + 0x1000)) << "synced more than was asked for";
}

TEST_F(Unsync, InvlpgOfANonCanonicalAddressDoesNothing) {
  edit(kVa, 0);
  guest_.cpu().invlpg(Gva{kVa.raw | u64{1} << 63});
  EXPECT_TRUE(guest_.translation(kVa).present);
}

TEST_F(Unsync, InvlpgOwesTheHardwareAFlushOfTheAddress) {
  edit(kVa, 0);
  guest_.platform.flushes.clear();
  guest_.cpu().invlpg(kVa);
  bool covered = false;
  for (const FlushRequest& f : guest_.platform.flushes)
    covered |= f.kind == FlushRequest::Kind::kAll ||
               (f.kind == FlushRequest::Kind::kAddress && f.gva == kVa);
  EXPECT_TRUE(covered);
}

TEST_F(Unsync, Cr3LoadSyncsEveryEntry) {
  edit(kVa, kOther.raw | kUsed);
  edit(kNeighbour, 0);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
  EXPECT_EQ(guest_.read(kNeighbour), page_fault(0));
}

TEST_F(Unsync, Cr3LoadProtectsTheTableAgain) {
  edit(kVa, kOther.raw | kUsed);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw));
  EXPECT_FALSE(guest_.translation(kTableVa).writable());
}

TEST_F(Unsync, TableCanBecomeUnsyncTwice) {
  edit(kVa, kOther.raw | kUsed);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw));
  edit(kVa, kPage.raw | kUsed);
  EXPECT_EQ(guest_.stats().unsyncs, 2u);
  guest_.cpu().invlpg(kVa);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(Unsync, PageGlobalToggleSyncsEveryEntry) {
  edit(kVa, 0);
  ASSERT_TRUE(guest_.cpu().set_cr4(guest_.cpu().cr4() ^ cr4::kPge));
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
}

// SDM 3A "Operations that Invalidate TLBs and Paging-Structure Caches": a page fault does so for
// its address.
TEST_F(Unsync, FaultInvalidatesItsAddress) {
  edit(kVa, kPage.raw | kUsed | pte::kXd);
  guest_.cpu().invlpg(kVa);
  guest_.read(kVa);
  edit(kVa, kOther.raw | kUsed | pte::kXd);
  ASSERT_EQ(guest_.read(kVa), guest_.reaches(kPage)) << "stale, and permitted to be";
  ASSERT_EQ(guest_.fetch(kVa), page_fault(pfec::kP | pfec::kI));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Unsync, WideningNeedsNoInvalidation) {
  edit(kVa, kPage.raw | (kUsed & ~pte::kW));
  guest_.cpu().invlpg(kVa);
  guest_.read(kVa);
  edit(kVa, kPage.raw | kUsed);
  EXPECT_EQ(guest_.write(kVa, 1), guest_.reaches(kPage));
}

TEST_F(Unsync, NewEntryNeedsNoInvalidation) {
  const Gva fresh = kVa + 0x40000;
  edit(fresh, kOther.raw | kUsed);
  EXPECT_EQ(guest_.read(fresh), guest_.reaches(kOther));
}

TEST_F(Unsync, NeighboursOfAnUnsyncTableAreNotPrefetched) {
  const Gva fresh = kVa + 0x40000;
  edit(fresh, kOther.raw | kUsed);
  edit(fresh + 0x1000, kOther.raw | kUsed);
  guest_.read(fresh);
  EXPECT_FALSE(guest_.translation(fresh + 0x1000).present);
}

TEST_F(Unsync, UseAsAnUpperTableEndsIt) {
  edit(kVa, kOther.raw | kUsed);
  const Gva above{0x6000'0000'0000};
  guest_.map(above, kPage, kUsed);
  guest_.host_store(guest_.entry(above, 3), table_.raw | kRights);
  // kVa's index selects the entry; the page that it maps is then read as a level-1 table.
  const Gva through{above.raw + (((kVa.raw >> 12) & 511) << 21)};
  guest_.host_store(kOther, kPage.raw | kUsed);
  EXPECT_EQ(guest_.read(through), guest_.reaches(kPage));
  EXPECT_EQ(guest_.events(Event::kUpperZapsUnsync), 1u);
  EXPECT_FALSE(guest_.translation(kTableVa).writable());
}

TEST_F(Unsync, UpperTableIsWrittenByEmulation) {
  const Gva pd_va = kTableVa + 0x1000;
  guest_.map(pd_va, guest_.table_of(kVa, 2));
  const Gva pde = pd_va + (guest_.entry(kVa, 2).raw & (kPageSize - 1));
  EXPECT_TRUE(guest_.write(pde, 0).emulated);
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
}

TEST_F(Unsync, LinkFromElsewhereSyncsFirst) {
  edit(kVa, kOther.raw | kUsed);
  edit(kNeighbour, 0);
  const Gva alias{0x5000'0000'0000};
  guest_.map(alias, kPage);
  guest_.host_store(guest_.entry(alias, 2), table_.raw | kRights);
  EXPECT_EQ(guest_.read(alias), guest_.reaches(kOther)) << "a new path must not show old entries";
  EXPECT_EQ(guest_.read(alias + (kNeighbour - kVa)), page_fault(0));
}

TEST_F(Unsync, LinkOfAnUpperTableSyncsBelowFirst) {
  edit(kVa, kOther.raw | kUsed);
  edit(kNeighbour, 0);
  const Gva alias{0x5000'0000'0000 | (kVa.raw & ((u64{1} << 30) - 1))};
  guest_.map(alias, kPage);
  const Gpa directory = guest_.table_of(kVa, 2);
  guest_.host_store(guest_.entry(alias, 3), directory.raw | kRights);
  EXPECT_EQ(guest_.read(alias), guest_.reaches(kOther));
  EXPECT_EQ(guest_.read(alias + (kNeighbour - kVa)), page_fault(0))
      << "the link alone made an old entry visible";
}

TEST_F(Unsync, TableSharedByTwoRolesIsSyncedInBoth) {
  const Gva read_only{0x5000'0000'0000};
  guest_.map(read_only, kPage);
  guest_.host_store(guest_.entry(read_only, 2), table_.raw | pte::kP | pte::kU);
  guest_.read(read_only);
  edit(kVa, kOther.raw | kUsed);
  EXPECT_EQ(guest_.stats().unsyncs, 2u);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
  EXPECT_EQ(guest_.read(read_only), guest_.reaches(kOther));
}

TEST_F(Unsync, TableReachedTwiceFromOneDirectoryIsSyncedOnce) {
  const Gva twin = kVa + (2 << 20);
  guest_.host_store(guest_.entry(twin, 2), table_.raw | kRights);
  guest_.read(twin);
  edit(kVa, kOther.raw | kUsed);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw));
  EXPECT_EQ(guest_.read(twin), guest_.reaches(kOther));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Unsync, InvlpgReachesPreviousRoots) {
  edit(kVa, kOther.raw | kUsed);
  const Gpa second = guest_.new_table();
  guest_.map(second, kTableVa, table_);
  ASSERT_TRUE(guest_.cpu().set_cr3(second.raw));
  guest_.read(kTableVa);
  guest_.cpu().invlpg(kVa);
  guest_.audit();
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Unsync, EmulatedWriteReachesAnUnsyncTable) {
  edit(kNeighbour, 0);
  guest_.write_physical(guest_.entry(kVa, 1), kOther.raw | kUsed);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Unsync, RemovedDirectoryTakesUnsyncChildrenAlong) {
  edit(kVa, kOther.raw | kUsed);
  // Three stores flood the directory: it is zapped with what is unsync below it.
  for (int i = 0; i < 3; ++i) guest_.write_physical(guest_.entry(kVa, 2) + 8, 0);
  EXPECT_EQ(guest_.stats().floods, 1u);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST(UnsyncOption, OffMeansThatEveryTableWriteIsEmulated) {
  VmConfig config;
  config.options.unsync = false;
  Guest g(config);
  g.map(kVa, kPage);
  g.map(kTableVa, g.table_of(kVa));
  g.read(kVa);
  EXPECT_TRUE(g.write(kTableVa + ((kVa.raw >> 12) & 511) * 8, kOther.raw | kUsed).emulated);
  EXPECT_EQ(g.read(kVa), g.reaches(kOther));
}

}  // namespace
}  // namespace mmu
