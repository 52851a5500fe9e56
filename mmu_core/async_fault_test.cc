#include "mmu_core/async_fault.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;
using testing::LimitedPages;
using testing::Outcome;
using Kind = Outcome::Kind;

constexpr Gva kVa{0x1234'5660'0000}, kSameVa{0x2345'6660'0000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};

class AsyncFaultTest : public ::testing::Test {
 protected:
  AsyncFaultTest() {
    g_.map(kVa, kPage);
    g_.platform.send_away(hva(kPage));
  }
  static Hva hva(Gpa gpa) { return kMemory + gpa.raw; }
  u64 token() const { return g_.platform.tokens.back(); }
  // The host has the page.
  bool ready(Gpa gpa, u64 token) {
    g_.platform.bring_back(hva(gpa));
    const bool done = g_.cpu().async_page_ready(token);
    g_.audit();
    return done;
  }
  Guest g_;
};

TEST_F(AsyncFaultTest, PageComesLaterAndIsMappedAhead) {
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  EXPECT_FALSE(g_.translation(kVa).present);
  EXPECT_TRUE(ready(kPage, token()));
  const Outcome o = g_.read(kVa);
  EXPECT_EQ(o, g_.reaches(kPage));
  EXPECT_EQ(o.faults, 0u);
  EXPECT_EQ(g_.platform.waits, 0u);
  EXPECT_EQ(g_.events(Event::kAsyncLater), 1u);
  EXPECT_EQ(g_.events(Event::kAsyncReady), 1u);
}

TEST_F(AsyncFaultTest, TheSamePageIsWaitedForOnce) {
  g_.map(kSameVa, kPage);
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  EXPECT_EQ(g_.read(kVa).kind, Kind::kLater);
  EXPECT_EQ(g_.write(kSameVa, 1).kind, Kind::kLater);
  EXPECT_EQ(g_.platform.tokens.size(), 1u);
  EXPECT_TRUE(ready(kPage, token()));
  EXPECT_EQ(g_.write(kSameVa, 1), g_.reaches(kPage));
}

TEST_F(AsyncFaultTest, TokensAreNeverTheSame) {
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  const u64 first = token();
  ASSERT_TRUE(ready(kPage, first));
  g_.platform.send_away(hva(kPage));
  g_.vm().zap_all();
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  EXPECT_NE(token(), first);
  EXPECT_FALSE(g_.cpu().async_page_ready(first)) << "of long ago";
  EXPECT_FALSE(g_.cpu().async_page_ready(0));
}

TEST_F(AsyncFaultTest, VcpusWaitForThemselves) {
  VmConfig config;
  config.vcpus = 2;
  Guest g(config);
  g.map(kVa, kPage);
  g.platform.send_away(hva(kPage));
  ASSERT_EQ(g.read(kVa, 0).kind, Kind::kLater);
  ASSERT_EQ(g.read(kVa, 1).kind, Kind::kLater);
  ASSERT_EQ(g.platform.tokens.size(), 2u);
  EXPECT_NE(g.platform.tokens[0], g.platform.tokens[1]);
  EXPECT_FALSE(g.cpu(1).async_page_ready(g.platform.tokens[0]));
}

// As many as there is room for; then the fault itself waits.
TEST_F(AsyncFaultTest, WhatCannotBeNotedIsWaitedFor) {
  for (u64 i = 1; i < AsyncFaults::kMost + 2; ++i) {
    g_.map(kVa + i * (kPageSize << 9), kOther + i * kPageSize);
    g_.platform.send_away(hva(kOther + i * kPageSize));
  }
  for (u64 i = 1; i < AsyncFaults::kMost + 1; ++i)
    ASSERT_EQ(g_.read(kVa + i * (kPageSize << 9)).kind, Kind::kLater) << i;
  const u64 last = AsyncFaults::kMost + 1;
  EXPECT_EQ(g_.read(kVa + last * (kPageSize << 9)), g_.reaches(kOther + last * kPageSize));
  EXPECT_EQ(g_.platform.waits, 1u);
}

TEST_F(AsyncFaultTest, OtherTablesInCr3DropIt) {
  const Gpa other = g_.new_table();
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  ASSERT_TRUE(g_.cpu().set_cr3(other.raw));
  EXPECT_FALSE(ready(kPage, token()));
  EXPECT_EQ(g_.events(Event::kAsyncDropped), 1u);
  ASSERT_TRUE(g_.cpu().set_cr3(g_.root().raw));
  EXPECT_EQ(g_.read(kVa), g_.reaches(kPage));
  EXPECT_EQ(g_.events(Event::kAsyncReady), 0u);
}

TEST_F(AsyncFaultTest, OtherRulesDropIt) {
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  ASSERT_TRUE(g_.cpu().set_cr0(g_.cpu().cr0() & ~cr0::kWp));
  EXPECT_FALSE(ready(kPage, token()));
}

TEST_F(AsyncFaultTest, VcpuThatStartsAnewWaitsForNothing) {
  for (unsigned how = 0; how < 3; ++how) {
    g_.platform.send_away(hva(kPage));
    g_.enter_mode(k4Level);
    ASSERT_EQ(g_.read(kVa).kind, Kind::kLater) << how;
    const Sregs sregs = g_.sregs(k4Level);
    if (how == 0) ASSERT_TRUE(g_.cpu().set_sregs(sregs));
    if (how == 1) ASSERT_EQ(g_.vm().recreate_vcpu(0, sregs), Status::kOk);
    if (how == 2) g_.cpu().init(false);
    EXPECT_FALSE(ready(kPage, token())) << how;
    EXPECT_EQ(g_.events(Event::kAsyncDropped), 0u);
  }
}

TEST_F(AsyncFaultTest, RootThatWentMeanwhileIsMadeAnew) {
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  g_.vm().zap_all();
  EXPECT_TRUE(ready(kPage, token()));
  EXPECT_EQ(g_.read(kVa).faults, 0u);
}

// Mapping ahead is no access.

TEST_F(AsyncFaultTest, GuestsAccessedBitIsLeftAlone) {
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  g_.host_store(g_.entry(kVa, 1), kPage.raw | kRights);  // the guest has cleared A meanwhile
  EXPECT_TRUE(ready(kPage, token()));
  EXPECT_EQ(g_.load(g_.entry(kVa, 1)), kPage.raw | kRights);
  EXPECT_FALSE(g_.translation(kVa).present);
  EXPECT_EQ(g_.read(kVa), g_.reaches(kPage));
}

TEST_F(AsyncFaultTest, WriteThatIsNotMadeAgainSetsNoDirtyBit) {
  g_.store_entry(g_.entry(kVa, 1), kPage.raw | kRights | pte::kA);
  ASSERT_EQ(g_.write(kVa, 1).kind, Kind::kLater);
  g_.host_store(g_.entry(kVa, 1), kPage.raw | kRights | pte::kA);
  EXPECT_TRUE(ready(kPage, token()));
  EXPECT_TRUE(g_.translation(kVa).present);
  EXPECT_FALSE(g_.translation(kVa).writable());
  EXPECT_EQ(g_.write(kVa, 1), g_.reaches(kPage));
  EXPECT_TRUE(g_.load(g_.entry(kVa, 1)) & pte::kD);
}

TEST_F(AsyncFaultTest, TableThatIsMappedAheadStaysInStep) {
  g_.map(kSameVa, g_.table_of(kVa));
  g_.map(kVa + kPageSize, kOther);
  g_.read(kVa + kPageSize);  // shadows the table
  g_.platform.send_away(hva(g_.table_of(kVa)));
  ASSERT_EQ(g_.write(kSameVa + 8 * 100, 0).kind, Kind::kLater);
  EXPECT_TRUE(ready(g_.table_of(kVa), token()));
  EXPECT_TRUE(g_.translation(kSameVa).present);
  EXPECT_FALSE(g_.translation(kSameVa).writable()) << "nobody has asked for unsync yet";
  EXPECT_EQ(g_.stats().unsyncs, 0u);
}

TEST_F(AsyncFaultTest, WhatIsNoLongerThereIsNotMapped) {
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  g_.host_store(g_.entry(kVa, 1), 0);
  EXPECT_TRUE(ready(kPage, token()));
  EXPECT_FALSE(g_.translation(kVa).present);
  g_.host_store(g_.entry(kVa, 1), 0x1'0000'0000 | kUsed);  // no memory
  g_.platform.send_away(hva(kPage));
  g_.map(kSameVa, kPage);
  ASSERT_EQ(g_.read(kSameVa).kind, Kind::kLater);
  g_.host_store(g_.entry(kSameVa, 1), 0x1'0000'0000 | kUsed);
  EXPECT_TRUE(ready(kPage, token()));
  EXPECT_FALSE(g_.translation(kSameVa).present);
}

TEST_F(AsyncFaultTest, PageThatIsBrokenAfterAllIsNotMapped) {
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  g_.platform.host_page(hva(kPage)).kind = FrameLookup::Kind::kPoisoned;
  EXPECT_TRUE(ready(kPage, token()));
  EXPECT_EQ(g_.read(kVa).kind, Kind::kPoisoned);
}

TEST_F(AsyncFaultTest, WithoutMemoryTheVcpuFaultsAgain) {
  ASSERT_EQ(g_.read(kVa).kind, Kind::kLater);
  g_.vm().zap_all();
  g_.cpu().enter();
  g_.platform.table_source = g_.platform.object_source = LimitedPages(0);
  g_.vm().zap_all();
  EXPECT_TRUE(ready(kPage, token()));
  g_.platform.table_source = g_.platform.object_source = LimitedPages();
  EXPECT_EQ(g_.read(kVa), g_.reaches(kPage));
}

}  // namespace
}  // namespace mmu
