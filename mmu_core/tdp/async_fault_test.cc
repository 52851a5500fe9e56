// Asynchronous faults, in two dimensions.

#include "mmu_core/async_fault.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using Kind = TdpOutcome::Kind;

constexpr Gpa kPage{0x40'3000};

class TdpAsyncFault : public ::testing::TestWithParam<TdpMachine> {
 protected:
  TdpAsyncFault() { g_.platform.send_away(kTdpMemory + kPage.raw); }
  u64 token() const { return g_.platform.tokens.back(); }
  bool ready() {
    g_.platform.bring_back(kTdpMemory + kPage.raw);
    const bool done = g_.cpu().async_page_ready(token());
    g_.audit();
    return done;
  }
  TdpGuest g_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(, TdpAsyncFault, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpAsyncFault, PageComesLaterAndIsMappedAhead) {
  ASSERT_EQ(g_.write(kPage), ended(Kind::kLater));
  EXPECT_EQ(g_.write(kPage), ended(Kind::kLater));
  EXPECT_EQ(g_.platform.tokens.size(), 1u);
  EXPECT_FALSE(g_.walk(kPage).present);
  EXPECT_TRUE(ready());
  const TdpOutcome o = g_.write(kPage);
  EXPECT_EQ(o, g_.reaches(kPage));
  EXPECT_EQ(o.faults, 0u);
  EXPECT_EQ(g_.platform.waits, 0u);
  EXPECT_EQ(g_.events(TdpEvent::kAsyncLater), 1u);
  EXPECT_EQ(g_.events(TdpEvent::kAsyncReady), 1u);
}

TEST_P(TdpAsyncFault, RootThatWentMeanwhileIsMadeAnew) {
  ASSERT_EQ(g_.read(kPage), ended(Kind::kLater));
  g_.vm().zap_all();
  EXPECT_TRUE(ready());
  EXPECT_EQ(g_.read(kPage).faults, 0u);
}

TEST_P(TdpAsyncFault, InAnotherAddressSpaceNothingIsWaitedFor) {
  ASSERT_EQ(g_.read(kPage), ended(Kind::kLater));
  ASSERT_TRUE(g_.cpu().set_smm(true));
  EXPECT_FALSE(ready());
  ASSERT_TRUE(g_.cpu().set_smm(false));
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
}

TEST_P(TdpAsyncFault, PrefaultWaits) {
  EXPECT_EQ(g_.cpu().prefault(kPage, 1), 1u);
  EXPECT_EQ(g_.platform.waits, 1u);
  EXPECT_TRUE(g_.platform.tokens.empty());
}

}  // namespace
}  // namespace mmu::testing
