#include "mmu_core/pt_write.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kRights;
using testing::kUsed;
using testing::page_fault;

constexpr Gva kVa{0x1234'5660'0000};
constexpr Gva kTableVa{0x7000'0000'0000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};

class PtWrite : public ::testing::Test {
 protected:
  PtWrite() {
    guest_.map(kVa, kPage);
    guest_.read(kVa);
    pte_ = guest_.entry(kVa, 1);
  }

  Guest guest_;
  Gpa pte_;
};

TEST_F(PtWrite, WholeEntryTakesEffect) {
  guest_.write_physical(pte_, kOther.raw | kUsed);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(PtWrite, DropsOnlyTheEntryWritten) {
  guest_.map(kVa + 0x1000, kOther);
  guest_.read(kVa + 0x1000);
  guest_.write_physical(pte_, 0);
  EXPECT_FALSE(guest_.translation(kVa).present);
  EXPECT_TRUE(guest_.translation(kVa + 0x1000).present);
}

TEST_F(PtWrite, OwesAFlush) {
  guest_.platform.flushes.clear();
  guest_.write_physical(pte_, 0);
  EXPECT_FALSE(guest_.platform.flushes.empty());
}

TEST_F(PtWrite, WriteToAnEntryThatIsNotShadowedOwesNothing) {
  guest_.platform.flushes.clear();
  guest_.write_physical(pte_ + 64 * 8, kOther.raw | kUsed);
  EXPECT_TRUE(guest_.platform.flushes.empty());
}

TEST_F(PtWrite, HalvesOfAnEntryTakeEffectOneByOne) {
  guest_.write_physical(pte_, kOther.raw | kUsed, 4);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
  guest_.write_physical(pte_ + 4, pte::kXd >> 32, 4);
  EXPECT_EQ(guest_.fetch(kVa), page_fault(pfec::kP | pfec::kI));
}

TEST_F(PtWrite, SmallStoresTakeEffect) {
  guest_.write_physical(pte_, (kPage.raw | (kUsed & ~pte::kP)) & 0xff, 1);
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
  guest_.write_physical(pte_, (kPage.raw | kUsed) & 0xffff, 2);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(PtWrite, SmallStoreGivesThePageUp) {
  const Hpa table = guest_.translation(kVa).table;
  guest_.write_physical(pte_ + 100 * 8, 0, 1);
  EXPECT_EQ(guest_.platform.table_at(table), nullptr);
  EXPECT_EQ(guest_.events(Event::kPtWriteMisaligned), 1u);
}

TEST_F(PtWrite, StoreAcrossTwoEntriesTakesEffectInBoth) {
  guest_.map(kVa + 0x1000, kPage + 0x1000);
  guest_.read(kVa + 0x1000);
  // Upper half of the first entry, lower half of the second.
  guest_.write_physical(pte_ + 4, u64{(kOther.raw | kUsed)} << 32 | pte::kXd >> 32);
  EXPECT_EQ(guest_.fetch(kVa), page_fault(pfec::kP | pfec::kI));
  EXPECT_EQ(guest_.read(kVa + 0x1000), guest_.reaches(kOther));
}

TEST_F(PtWrite, StoreAcrossAPageReachesBothTables) {
  // kVa's table and the next frame, which becomes the table of the next 2M.
  const Gpa table{pte_.raw & ~(kPageSize - 1)};
  const Gva last = kVa + 0x1f'f000, next = kVa + 0x20'0000;
  guest_.host_store(guest_.entry(next, 2), (table + kPageSize).raw | kRights);
  guest_.host_store(table + 511 * 8, kPage.raw | kUsed);
  guest_.host_store(table + kPageSize, kPage.raw | kUsed);
  guest_.read(last);
  guest_.read(next);
  guest_.write_physical(table + (kPageSize - 4), u64{kOther.raw | kUsed} << 32 | pte::kXd >> 32);
  EXPECT_EQ(guest_.fetch(last), page_fault(pfec::kP | pfec::kI));
  EXPECT_EQ(guest_.read(next), guest_.reaches(kOther));
}

TEST_F(PtWrite, UpperEntryTakesEffect) {
  for (unsigned level = 2; level <= 4; ++level) {
    Guest g;
    g.map(kVa, kPage);
    g.read(kVa);
    const u64 was = g.load(g.entry(kVa, level));
    g.write_physical(g.entry(kVa, level), 0);
    EXPECT_EQ(g.read(kVa), page_fault(0)) << "level " << level;
    g.write_physical(g.entry(kVa, level), was & ~pte::kW);
    EXPECT_EQ(g.read(kVa), g.reaches(kPage)) << "level " << level;
    EXPECT_EQ(g.write(kVa, 1), page_fault(pfec::kP | pfec::kW)) << "level " << level;
  }
}

TEST_F(PtWrite, RelinkedTableIsFoundAgain) {
  const Hpa table = guest_.translation(kVa).table;
  const Gpa pde = guest_.entry(kVa, 2);
  const u64 was = guest_.load(pde);
  guest_.write_physical(pde, 0);
  guest_.write_physical(pde, was);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  EXPECT_EQ(guest_.translation(kVa).table, table);
}

TEST_F(PtWrite, FloodOfAnUpperTableGivesItUp) {
  const Gpa unused = guest_.entry(kVa, 2) + 8;
  guest_.write_physical(unused, 0);
  guest_.write_physical(unused, 0);
  EXPECT_EQ(guest_.stats().floods, 0u);
  guest_.write_physical(unused, 0);
  EXPECT_EQ(guest_.stats().floods, 1u);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(PtWrite, FloodOfTheRootInUse) {
  for (int i = 0; i < 3; ++i) guest_.write_physical(guest_.root() + 8, 0);
  EXPECT_EQ(guest_.stats().floods, 1u);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(PtWrite, UseOfATableEndsItsFlood) {
  const Gva other = kVa + (2 << 20);
  guest_.map(other, kOther);
  const Gpa unused = guest_.entry(kVa, 2) + 16;
  for (int i = 0; i < 4; ++i) {
    guest_.write_physical(unused, 0);
    guest_.write_physical(guest_.entry(other, 1), 0);
    guest_.write_physical(guest_.entry(other, 1), kOther.raw | kUsed);
    guest_.read(other);  // walks through the directory
  }
  EXPECT_EQ(guest_.stats().floods, 0u);
}

TEST_F(PtWrite, Level1TablesDoNotFlood) {
  for (int i = 0; i < 8; ++i) guest_.write_physical(pte_, kOther.raw | kUsed);
  EXPECT_EQ(guest_.stats().floods, 0u);
}

TEST_F(PtWrite, FormerTableBecomesOrdinaryMemory) {
  const Gpa directory = guest_.table_of(kVa, 2);
  guest_.map(kTableVa, directory);
  ASSERT_TRUE(guest_.write(kTableVa + 0xff8, 0).emulated);
  guest_.write_physical(guest_.entry(kVa, 3), 0);
  for (int i = 0; i < 3; ++i) guest_.write(kTableVa + 0xff8, 0);
  EXPECT_FALSE(guest_.write(kTableVa + 0xff8, 0).emulated);
}

TEST_F(PtWrite, ReadModifyWriteGivesTheTableUp) {
  const Gpa directory = guest_.table_of(kVa, 2);
  guest_.map(kTableVa, directory);
  ASSERT_TRUE(guest_.access(kTableVa + 0xff8, Access::kRmw, 1).emulated);
  EXPECT_EQ(guest_.load(directory + 0xff8), 1u);
  EXPECT_EQ(guest_.events(Event::kUnprotect), 1u);
  EXPECT_FALSE(guest_.access(kTableVa + 0xff8, Access::kRmw, 1).emulated);
  EXPECT_EQ(guest_.load(directory + 0xff8), 2u);
}

TEST_F(PtWrite, EntryThatSetsAReservedBit) {
  guest_.write_physical(pte_, kPage.raw | kUsed | bit(40));
  EXPECT_EQ(guest_.read(kVa), page_fault(pfec::kP | pfec::kRsvd));
}

}  // namespace
}  // namespace mmu
