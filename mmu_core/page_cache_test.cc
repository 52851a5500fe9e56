#include "mmu_core/page_cache.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kRights;
using testing::kUsed;
using testing::page_fault;

constexpr Gva kVa{0x1234'5660'0000}, kAlias{0x2345'6660'0000};
constexpr Gpa kPage{0x40'0000};

// kAlias's directory names kVa's level-1 table, with these bits in the naming entry.
void share_table(Guest& g, u64 flags) {
  g.map(kVa, kPage);
  g.map(kAlias, kPage);
  g.host_store(g.entry(kAlias, 2), g.table_of(kVa).raw | flags);
}

TEST(PageCache, EqualRightsShareAPage) {
  Guest g;
  share_table(g, kRights);
  g.read(kVa);
  g.read(kAlias);
  EXPECT_EQ(g.translation(kVa).table, g.translation(kAlias).table);
}

TEST(PageCache, OtherRightsGetAPageOfTheirOwn) {
  for (const u64 flags : {pte::kP | pte::kU, pte::kP | pte::kW, kRights | pte::kXd}) {
    Guest g;
    share_table(g, flags);
    g.read(kVa);
    g.read(kAlias);
    EXPECT_NE(g.translation(kVa).table, g.translation(kAlias).table)
        << "flags 0x" << std::hex << flags;
  }
}

TEST(PageCache, ReadOnlyPathDoesNotNarrowTheOther) {
  Guest g;
  share_table(g, pte::kP | pte::kU);
  EXPECT_EQ(g.write(kAlias, 1), page_fault(pfec::kP | pfec::kW));
  EXPECT_EQ(g.write(kVa, 1), g.reaches(kPage));
  EXPECT_EQ(g.write(kAlias, 1), page_fault(pfec::kP | pfec::kW));
}

TEST(PageCache, OneFrameAtTwoLevelsIsTwoPages) {
  Guest g;
  // The last entry of the root names the root: the classic recursive mapping.
  g.map(kVa, kPage);
  const Gva self{~u64{0} << 39};
  g.host_store(g.entry(self, 4), g.root().raw | kRights);
  g.read(kVa);
  const Gva root_va{~u64{0xfff}};
  EXPECT_EQ(g.read(root_va), g.reaches(g.root()));
  EXPECT_TRUE(g.write(root_va + 8, 0).emulated);
}

TEST(PageCache, RecursiveMappingEditsWhatIsInUse) {
  Guest g;
  g.map(kVa, kPage);
  const u64 slot = 511;
  g.host_store(g.root() + slot * 8, g.root().raw | kRights);
  g.read(kVa);
  const Gva pte_va{0xffff'0000'0000'0000 | slot << 39 |
                   (kVa.raw >> 9 & ((u64{1} << 39) - 1) & ~u64{7})};
  ASSERT_EQ(g.read(pte_va).value, g.load(g.entry(kVa, 1)));
  g.write(pte_va, (kPage + 0x5000).raw | kUsed);
  g.cpu().invlpg(kVa);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage + 0x5000));
}

// A register bit that changes what an entry means must not let old pages be used, nor forget them
// for its return.
struct RoleBit {
  const char* name;
  u64 cr0, cr4, efer;  // bits that are flipped
};
void PrintTo(const RoleBit& b, std::ostream* out) { *out << b.name; }

class PageRoleBit : public ::testing::TestWithParam<RoleBit> {
 protected:
  static void flip(Guest& g) {
    const RoleBit& b = GetParam();
    if (b.cr0) {
      EXPECT_TRUE(g.cpu().set_cr0(g.cpu().cr0() ^ b.cr0));
    }
    if (b.cr4) {
      EXPECT_TRUE(g.cpu().set_cr4(g.cpu().cr4() ^ b.cr4));
    }
    if (b.efer) {
      EXPECT_TRUE(g.cpu().set_efer(g.cpu().efer() ^ b.efer));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Bits, PageRoleBit,
                         ::testing::Values(RoleBit{"wp", cr0::kWp, 0, 0},
                                           RoleBit{"nxe", 0, 0, efer::kNxe},
                                           RoleBit{"smep_not_wp", cr0::kWp, cr4::kSmep, 0},
                                           RoleBit{"smap_not_wp", cr0::kWp, cr4::kSmap, 0},
                                           RoleBit{"pke", 0, cr4::kPke, 0}));

TEST_P(PageRoleBit, MakesAnotherRoot) {
  Guest g;
  g.map(kVa, kPage, pte::kP | pte::kW | pte::kA | pte::kD);
  g.read(kVa);
  const Hpa before = g.cpu().enter().root;
  flip(g);
  EXPECT_NE(g.cpu().enter().root, before);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
}

TEST_P(PageRoleBit, FindsThePageAgainWhenItFlipsBack) {
  Guest g;
  g.map(kVa, kPage, pte::kP | pte::kW | pte::kA | pte::kD);
  g.read(kVa);
  const Hpa root = g.cpu().enter().root;
  flip(g);
  g.read(kVa);
  flip(g);
  EXPECT_EQ(g.cpu().enter().root, root);
  EXPECT_EQ(g.read(kVa).faults, 0u);
}

TEST(PageCache, SmapAndSmepWithWpAreNotOfTheRole) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  const Hpa root = g.cpu().enter().root;
  ASSERT_TRUE(g.cpu().set_cr4(g.cpu().cr4() | cr4::kSmap | cr4::kSmep));
  EXPECT_EQ(g.cpu().enter().root, root) << "the hardware enforces them on any entry";
}

TEST(PageCache, NxeOffMakesXdReserved) {
  Guest g;
  g.map(kVa, kPage, kUsed | pte::kXd);
  ASSERT_EQ(g.fetch(kVa), page_fault(pfec::kP | pfec::kI));
  ASSERT_TRUE(g.cpu().set_efer(g.cpu().efer() & ~efer::kNxe));
  EXPECT_EQ(g.read(kVa), page_fault(pfec::kP | pfec::kRsvd));
}

TEST(PageCache, WpOffLetsTheSupervisorWriteAndOnForbidsItAgain) {
  Guest g;
  g.map(kVa, kPage, pte::kP | pte::kU | pte::kA | pte::kD);
  const u64 on = g.cpu().cr0();
  ASSERT_TRUE(g.cpu().set_cr0(on & ~cr0::kWp));
  EXPECT_EQ(g.write(kVa, 1), g.reaches(kPage));
  ASSERT_TRUE(g.cpu().set_cr0(on));
  EXPECT_EQ(g.write(kVa, 1), page_fault(pfec::kP | pfec::kW));
}

TEST(PageCache, TwoVcpusShareOneTree) {
  VmConfig config;
  config.vcpus = 2;
  Guest g(config);
  g.map(kVa, kPage);
  g.read(kVa, 0);
  EXPECT_EQ(g.read(kVa, 1).faults, 0u);
  EXPECT_EQ(g.cpu(0).enter().root, g.cpu(1).enter().root);
}

TEST(PageCache, PagesAreCountedOnce) {
  Guest g;
  g.map(kVa, kPage);
  g.read(kVa);
  EXPECT_EQ(g.stats().shadow_pages, 4u);
  g.map(kVa + 0x1000, kPage);
  g.read(kVa + 0x1000);
  EXPECT_EQ(g.stats().shadow_pages, 4u);
}

}  // namespace
}  // namespace mmu
