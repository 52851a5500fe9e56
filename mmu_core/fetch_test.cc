#include "mmu_core/fetch.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;
using testing::Outcome;
using testing::page_fault;

constexpr Gva kVa{0x1234'5660'0000};  // 2M-aligned
constexpr Gpa kPage{0x40'0000};       // a 2M page without a guest table in it
constexpr Gpa kOther{0x60'0000};
constexpr u64 kLarge = 2 << 20;

// One host page of `level` behind the gpa.
void make_host_large(Guest& g, Gpa gpa, u8 level = 2) {
  g.platform.back_large(kMemory + gpa.raw, Pfn{0x200'0000 + (gpa.raw >> 12)}, level);
}

TEST(Fetch, ReachesA4KPage) {
  Guest g;
  g.map(kVa, kPage);
  EXPECT_EQ(g.read(kVa + 0x128), g.reaches(kPage + 0x128));
}

TEST(Fetch, InstallsNothingOnAFault) {
  Guest g;
  g.map(kVa, kPage);
  EXPECT_EQ(g.read(kVa + kPageSize), page_fault(0));
  EXPECT_FALSE(g.translation(kVa + kPageSize).present);
}

TEST(Fetch, SecondAccessNeedsNoExit) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  EXPECT_EQ(g.read(kVa).faults, 0u);
}

TEST(Fetch, LargeGuestPageOver4KHostPages) {
  Guest g;
  g.map(kVa, kPage, kUsed, 2);
  for (const u64 offset : {u64{0}, u64{0x1000}, kLarge - 8}) {
    EXPECT_EQ(g.read(kVa + offset), g.reaches(kPage + offset)) << "offset " << offset;
    EXPECT_EQ(g.translation(kVa + offset).level, 1u);
  }
}

TEST(Fetch, LargeGuestPageOverALargeHostPage) {
  Guest g;
  make_host_large(g, kPage);
  g.map(kVa, kPage, kUsed, 2);
  EXPECT_EQ(g.read(kVa + 0x5000), g.reaches(kPage + 0x5000));
  EXPECT_EQ(g.translation(kVa).level, 2u);
}

TEST(Fetch, LargePagesCanBeSwitchedOff) {
  VmConfig config;
  config.options.large_pages = false;
  Guest g(config);
  make_host_large(g, kPage);
  g.map(kVa, kPage, kUsed, 2);
  EXPECT_EQ(g.read(kVa + 0x5000), g.reaches(kPage + 0x5000));
  EXPECT_EQ(g.translation(kVa + 0x5000).level, 1u);
}

TEST(Fetch, SmallGuestPageOverALargeHostPage) {
  Guest g;
  make_host_large(g, kPage);
  g.map(kVa, kPage + 0x3000);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage + 0x3000));
  EXPECT_EQ(g.translation(kVa).level, 1u);
}

TEST(Fetch, NoLargeMappingOverAGuestTable) {
  Guest g;
  make_host_large(g, Gpa{0});  // holds the guest's tables
  g.map(kVa, Gpa{0}, kUsed, 2);
  EXPECT_EQ(g.read(kVa), g.reaches(Gpa{0}));
  EXPECT_EQ(g.translation(kVa).level, 1u);
}

TEST(Fetch, LargeMappingFallsWhenATableAppearsInIt) {
  Guest g;
  make_host_large(g, kPage);
  g.map(kVa, kPage, kUsed, 2);
  g.write(kVa, 1);
  ASSERT_TRUE(g.translation(kVa).writable());
  const Gva through{0x7000'0000'0000};
  g.map(through, kOther);
  g.host_store(g.entry(through, 2),
               (kPage + 0x7000).raw | kRights);  // the table is inside the large page
  g.host_store(kPage + 0x7000, kOther.raw | kUsed);
  EXPECT_EQ(g.read(through), g.reaches(kOther));
  EXPECT_FALSE(g.translation(kVa).writable()) << "the guest could edit the table unseen";
}

class HugeFetch : public ::testing::TestWithParam<u8> {};
INSTANTIATE_TEST_SUITE_P(HostLevels, HugeFetch, ::testing::Values(u8{1}, u8{2}, u8{3}));

TEST_P(HugeFetch, GigabyteGuestPage) {
  constexpr Gpa kHuge{1 << 30};
  Guest g(VmConfig{}, 2 << 18);
  const Gva va{0x1234'4000'0000};
  if (GetParam() > 1) make_host_large(g, kHuge, GetParam());
  g.map(va, kHuge, kUsed, 3);
  EXPECT_EQ(g.read(va + 0x12'3458), g.reaches(kHuge + 0x12'3458));
  EXPECT_EQ(g.translation(va + 0x12'3458).level, GetParam());
}

TEST(Fetch, DirectPagesEnforceTheRightsOfTheLargeGuestPage) {
  Guest g;
  g.map(kVa, kPage, pte::kP | pte::kU | pte::kA | pte::kXd, 2);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
  EXPECT_EQ(g.write(kVa, 1), page_fault(pfec::kP | pfec::kW));
  EXPECT_EQ(g.fetch(kVa), page_fault(pfec::kP | pfec::kI));
}

TEST(Fetch, DirectPagesOfOneRangeAreKeptApartByRights) {
  Guest g;
  const Gva read_only{0x2000'0000'0000};
  g.map(kVa, kPage, kUsed, 2);
  g.map(read_only, kPage, pte::kP | pte::kA | pte::kU, 2);
  g.write(kVa, 5);
  EXPECT_EQ(g.write(read_only, 6), page_fault(pfec::kP | pfec::kW));
  EXPECT_EQ(g.read(read_only).value, 5u);
  EXPECT_EQ(g.write(kVa, 7), g.reaches(kPage));
}

TEST(Fetch, CleanLargeGuestPageBecomesWritableWithTheFirstWrite) {
  Guest g;
  g.map(kVa, kPage, kRights, 2);
  g.read(kVa);
  ASSERT_FALSE(g.translation(kVa).writable());
  EXPECT_EQ(g.write(kVa, 1), g.reaches(kPage));
  EXPECT_EQ(g.load(g.entry(kVa, 2)) & pte::kD, pte::kD);
}

TEST(Fetch, CleanPageIsMappedReadOnly) {
  Guest g;
  g.map(kVa, kPage, kRights);
  g.read(kVa);
  EXPECT_FALSE(g.translation(kVa).writable());
}

TEST(Fetch, FirstWriteSetsTheDirtyBit) {
  Guest g;
  g.map(kVa, kPage, kRights);
  g.read(kVa);
  EXPECT_EQ(g.write(kVa, 1), g.reaches(kPage));
  EXPECT_EQ(g.load(g.entry(kVa, 1)), kPage.raw | kUsed);
}

TEST(Fetch, ChildOfAnotherFrameIsReplaced) {
  Guest g;
  g.map(kVa, kPage);
  g.map(kVa + 0x1000, kPage);
  g.read(kVa);
  const Gpa other_table = g.new_table();
  g.host_store(other_table + 512, 0);
  g.host_store(other_table + 8, kOther.raw | kUsed);
  g.host_store(g.entry(kVa, 2), other_table.raw | kRights);
  EXPECT_EQ(g.read(kVa + 0x1000), g.reaches(kPage)) << "prefetched before the edit: may be used";
  EXPECT_EQ(g.read(kVa + 0x10000), page_fault(0));
  g.host_store(other_table + 0x20 * 8, kOther.raw | kUsed);
  EXPECT_EQ(g.read(kVa + 0x20000), g.reaches(kOther));
  EXPECT_EQ(g.read(kVa + 0x1000), g.reaches(kOther));
  EXPECT_EQ(g.events(Event::kChildMismatch), 1u);
}

TEST(Fetch, ChildOfAnotherRoleIsReplaced) {
  Guest g;
  g.map(kVa, kPage);
  g.map(kVa + 0x20000, kOther);
  g.write(kVa, 1);
  const Gpa pde = g.entry(kVa, 2);
  g.host_store(pde, g.load(pde) & ~pte::kW);
  EXPECT_EQ(g.read(kVa + 0x20000), g.reaches(kOther));
  EXPECT_EQ(g.events(Event::kChildMismatch), 1u) << "same frame, other rights";
  EXPECT_EQ(g.write(kVa, 1), page_fault(pfec::kP | pfec::kW));
}

TEST(Fetch, LargeLeafIsReplacedByATable) {
  Guest g;
  make_host_large(g, kPage);
  g.map(kVa, kPage, kRights, 2);
  g.read(kVa);
  ASSERT_EQ(g.translation(kVa).level, 2u);
  const Gpa table = g.new_table();
  g.host_store(table, kOther.raw | kUsed);
  g.host_store(g.entry(kVa, 2), table.raw | kRights);
  EXPECT_EQ(g.write(kVa, 1), g.reaches(kOther));
}

TEST(Fetch, TableIsReplacedByALargeLeaf) {
  Guest g;
  make_host_large(g, kPage);
  g.map(kVa, kOther);
  g.read(kVa);
  g.host_store(g.entry(kVa, 2), kPage.raw | kUsed | pte::kPs);
  EXPECT_EQ(g.read(kVa + 0x20000), g.reaches(kPage + 0x20000));
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
  EXPECT_EQ(g.translation(kVa).level, 2u);
}

TEST(Fetch, DirectTableIsReplacedByALargeLeaf) {
  Guest g;
  g.map(kVa, kPage, kUsed, 2);
  g.read(kVa);
  ASSERT_EQ(g.translation(kVa).level, 1u);
  make_host_large(g, kOther);
  g.host_store(g.entry(kVa, 2), kOther.raw | kUsed | pte::kPs);
  EXPECT_EQ(g.read(kVa + 0x20000), g.reaches(kOther + 0x20000));
  EXPECT_EQ(g.translation(kVa).level, 2u);
}

TEST(Fetch, EntryChangedBetweenWalkAndInstall) {
  for (unsigned level = 1; level <= 4; ++level) {
    Guest g;
    g.map(kVa, kPage);
    g.platform.on_yield = [&](YieldPoint point, u32) {
      if (point == YieldPoint::kAfterWalk) g.host_store(g.entry(kVa, level), 0);
    };
    EXPECT_EQ(g.read(kVa), page_fault(0)) << "level " << level;
    EXPECT_FALSE(g.translation(kVa).present) << "level " << level;
  }
}

TEST(Fetch, AccessedBitClearedBetweenWalkAndInstall) {
  Guest g;
  g.map(kVa, kPage);
  bool once = true;
  g.platform.on_yield = [&](YieldPoint point, u32) {
    if (point == YieldPoint::kAfterFrame && once)
      g.host_store(g.entry(kVa, 1), kPage.raw | kRights);
    if (point == YieldPoint::kAfterFrame) once = false;
  };
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
  EXPECT_EQ(g.load(g.entry(kVa, 1)) & pte::kA, pte::kA) << "a page in use must look accessed";
}

// Two vCPUs are inside a fault at once: what was laid by for the first serves the second.
TEST(Fetch, FaultsOfTwoVcpusShareTheStores) {
  VmConfig config;
  config.vcpus = 2;
  Guest g(config);
  g.map(kVa, kPage);
  g.map(Gva{0x5555'0000'0000}, kOther);
  bool once = true;
  g.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    g.platform.running = 1;
    EXPECT_EQ(g.read(Gva{0x5555'0000'0000}, 1), g.reaches(kOther));
    g.platform.running = 0;
  };
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
  g.audit();
}

TEST(Prefetch, MapsAccessedNeighbours) {
  Guest g;
  g.map(kVa, kPage);
  g.map(kVa + 0x3000, kOther);
  g.read(kVa);
  EXPECT_EQ(g.translation(kVa + 0x3000).pfn, g.frame(kOther));
}

TEST(Prefetch, LeavesOutWhatWasNotAccessed) {
  Guest g;
  g.map(kVa, kPage);
  g.map(kVa + 0x3000, kOther, kRights);
  g.read(kVa);
  EXPECT_FALSE(g.translation(kVa + 0x3000).present) << "the guest would never see A set";
}

TEST(Prefetch, StaysWithinItsGroup) {
  Guest g;
  g.map(kVa + 0x7000, kPage);
  g.map(kVa + 0x8000, kOther);
  g.read(kVa + 0x7000);
  EXPECT_FALSE(g.translation(kVa + 0x8000).present);
}

TEST(Prefetch, CleanNeighbourIsReadOnly) {
  Guest g;
  g.map(kVa, kPage);
  g.map(kVa + 0x1000, kOther, kRights | pte::kA);
  g.write(kVa, 1);
  ASSERT_TRUE(g.translation(kVa + 0x1000).present);
  EXPECT_FALSE(g.translation(kVa + 0x1000).writable());
}

TEST(Prefetch, CanBeSwitchedOff) {
  VmConfig config;
  config.options.prefetch = false;
  Guest g(config);
  g.map(kVa, kPage);
  g.map(kVa + 0x1000, kOther);
  g.read(kVa);
  EXPECT_FALSE(g.translation(kVa + 0x1000).present);
}

// ---- the host has no frame for it

TEST(Frame, ThatTheHostWillNotLetBeWrittenIsLikeADevice) {
  Guest g;
  g.map(kVa, kPage);
  g.platform.host_page(kMemory + kPage.raw).writable = false;
  EXPECT_EQ(g.write(kVa, 1), testing::mmio(kPage));
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
}

TEST(Frame, ThatIsMissingLeavesTheFaultToTheHost) {
  Guest g;
  g.map(kVa, kPage);
  g.platform.host_page(kMemory + kPage.raw).kind = FrameLookup::Kind::kNoFrame;
  EXPECT_EQ(g.read(kVa).kind, Outcome::Kind::kNoMemory);
  g.platform.host_page(kMemory + kPage.raw).kind = FrameLookup::Kind::kPoisoned;
  EXPECT_EQ(g.read(kVa).kind, Outcome::Kind::kPoisoned);
}

TEST(Prefetch, LeavesOutWhatHasNoFrame) {
  Guest g;
  g.map(kVa, kPage);
  g.map(kVa + kPageSize, kPage + kPageSize);
  g.platform.host_page(kMemory + kPage.raw + kPageSize).kind = FrameLookup::Kind::kNoFrame;
  g.read(kVa);
  EXPECT_FALSE(g.translation(kVa + kPageSize).present);
}

// Between its look at the tables and the lock another vCPU faults, and takes shadow pages.
TEST(Stores, AreEachVcpusOwn) {
  VmConfig config;
  config.vcpus = 2;
  Guest g(config);
  g.map(kVa, kPage);
  const Gva other{kVa.raw + (u64{1} << 39)};
  g.map(other, kPage + kPageSize);
  g.cpu(1).enter();
  bool once = true;
  g.platform.on_yield = [&](YieldPoint point, u32 vcpu) {
    if (point != YieldPoint::kAfterFrame || vcpu != 0 || !once) return;
    once = false;
    g.platform.running = 1;
    EXPECT_EQ(g.read(other, 1), g.reaches(kPage + kPageSize));
    g.platform.running = 0;
  };
  const Outcome o = g.read(kVa);
  EXPECT_EQ(o, g.reaches(kPage));
  EXPECT_EQ(o.faults, 1u) << "nothing to try again";
  EXPECT_FALSE(once);
  g.platform.on_yield = nullptr;  // it knows a variable of this test
}

}  // namespace
}  // namespace mmu
