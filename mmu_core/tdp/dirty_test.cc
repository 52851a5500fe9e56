#include "mmu_core/tdp/dirty.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

constexpr Gpa kPage{0x40'3000}, kOther{0x60'5000}, kLarge{0x80'0000};
constexpr u64 kWords = TdpGuest::kPages / 64;

Gfn gfn(Gpa gpa) { return Gfn::of(gpa); }

class TdpDirty : public ::testing::TestWithParam<TdpMachine> {
 protected:
  // A VM that logs slot 0 from now on.
  void log(const std::function<void(VmConfig&)>& adjust = [](VmConfig&) {}) {
    VmConfig c = GetParam().config();
    c.vcpus = 2;
    adjust(c);
    guest_ = std::make_unique<TdpGuest>(GetParam(), c);
  }
  TdpGuest& g() {
    if (!guest_) log();
    return *guest_;
  }
  void begin() { ASSERT_EQ(g().set_flags(0, false, true), Status::kOk); }
  bool clear(Gfn first, u64 pages, std::vector<u64> bitmap) {
    bitmap.resize(kWords + 1);
    const bool ok = g().vm().clear_dirty_log(0, 0, first.raw, pages, bitmap.data());
    g().audit();
    return ok;
  }
  bool clear(Gpa page) { return clear(gfn(page), 1, {1}); }
  std::unique_ptr<TdpGuest> guest_;
};
INSTANTIATE_TEST_SUITE_P(, TdpDirty, ::testing::ValuesIn(kTdpMachines), tdp_name);

const auto kManual = [](VmConfig& c) { c.options.manual_clear = true; };
const auto kInitiallySet = [](VmConfig& c) {
  c.options.manual_clear = c.options.initially_set = true;
};

TEST_P(TdpDirty, HardwareHasALogOnlyWhileThereIsSomethingToLog) {
  EXPECT_EQ(g().cpu().enter().pml, Hpa{});
  begin();
  EXPECT_EQ(g().cpu().enter().pml != Hpa{}, GetParam().logs());
  ASSERT_EQ(g().set_flags(0, false, false), Status::kOk);
  EXPECT_EQ(g().cpu().enter().pml, Hpa{});
}

// Who is still in the guest has no log, and sets D of what it stores to.
TEST_P(TdpDirty, NobodyIsInTheGuestWithoutALogWhenDIsCleared) {
  ASSERT_EQ(g().write(kPage).kind, TdpOutcome::Kind::kOk);
  const EntryState before = g().cpu().enter();
  unsigned calls = 0;
  g().platform.on_call_out_of_guest = [&] {
    ++calls;
    EXPECT_TRUE(g().walk(before, kPage).entry & g().state().tdp.format.dirty);
    EXPECT_NE(g().cpu().enter().pml, Hpa{}) << "who comes back would have no log either";
  };
  begin();
  EXPECT_EQ(calls, GetParam().logs() ? 1u : 0u);
}

TEST_P(TdpDirty, HardwareThatLogsNeedsNoFault) {
  begin();
  g().read(kPage);
  EXPECT_EQ(g().write(kPage).faults, GetParam().logs() ? 0u : 1u);
  EXPECT_EQ(g().take_log(), std::vector{gfn(kPage)});
  EXPECT_EQ(g().write(kPage).faults, GetParam().logs() ? 0u : 1u);
  EXPECT_EQ(g().take_log(), std::vector{gfn(kPage)});
}

TEST_P(TdpDirty, MoreWritesThanTheHardwaresLogHolds) {
  begin();
  std::vector<Gfn> want;
  for (u64 i = 0; i < 1200; ++i) g().read(Gpa{i << 12});
  for (u64 i = 0; i < 1200; ++i) {
    EXPECT_EQ(g().write(Gpa{i << 12}).kind, TdpOutcome::Kind::kOk);
    want.emplace_back(i);
  }
  EXPECT_EQ(g().take_log(), want);
}

TEST_P(TdpDirty, LogsOfAllVcpusAreOne) {
  begin();
  g().read(kPage, 0);
  g().read(kOther, 1);
  g().write(kOther, 1, 1);
  g().write(kPage, 1, 0);
  EXPECT_EQ(g().take_log(), (std::vector{gfn(kPage), gfn(kOther)}));
}

TEST_P(TdpDirty, EntryOfTheHardwaresLogIsSeenOnce) {
  begin();
  g().write(kPage);
  g().take_log();
  EXPECT_TRUE(g().take_log().empty());
}

TEST_P(TdpDirty, ManualClearLeavesTheLogAsItIs) {
  log(kManual);
  begin();
  g().write(kPage);
  EXPECT_EQ(g().take_log(), std::vector{gfn(kPage)});
  EXPECT_EQ(g().take_log(), std::vector{gfn(kPage)});
  g().platform.flushes.clear();
  EXPECT_TRUE(clear(kPage));
  EXPECT_FALSE(g().platform.flushes.empty());
  EXPECT_TRUE(g().take_log().empty());
  g().write(kPage);
  EXPECT_EQ(g().take_log(), std::vector{gfn(kPage)});
}

TEST_P(TdpDirty, ManualClearOfOtherPagesIsNone) {
  log(kManual);
  begin();
  g().write(kPage);
  g().write(kPage + kPageSize);
  EXPECT_TRUE(clear(kPage + kPageSize));
  EXPECT_EQ(g().take_log(), std::vector{gfn(kPage)});
  EXPECT_EQ(g().write(kPage).faults, 0u);
}

TEST_P(TdpDirty, ManualClearAcrossWordsFromAnywhere) {
  log(kManual);
  begin();
  for (u64 i = 50; i < 150; ++i) g().write(Gpa{i << 12});
  EXPECT_TRUE(clear(Gfn{60}, 80, {~u64{0}, ~u64{0}}));
  std::vector<Gfn> want;
  for (u64 i = 50; i < 60; ++i) want.emplace_back(i);
  for (u64 i = 140; i < 150; ++i) want.emplace_back(i);
  EXPECT_EQ(g().take_log(), want);
}

TEST_P(TdpDirty, ManualClearThatIsRefused) {
  begin();
  EXPECT_FALSE(clear(kPage)) << "not manual";
  log(kManual);
  EXPECT_FALSE(clear(kPage)) << "not logging";
  begin();
  EXPECT_FALSE(clear(Gfn{TdpGuest::kPages}, 1, {1}));
  EXPECT_FALSE(clear(Gfn{TdpGuest::kPages - 1}, 2, {1}));
  EXPECT_FALSE(clear(Gfn{0}, 0, {1}));
  EXPECT_TRUE(clear(Gfn{TdpGuest::kPages - 1}, 1, {1}));
  u64 word = 0;
  EXPECT_FALSE(g().vm().clear_dirty_log(kAddressSpaces, 0, 0, 1, &word));
  EXPECT_FALSE(g().vm().clear_dirty_log(0, 3, 0, 1, &word));
}

TEST_P(TdpDirty, AllPagesAreDirtyAtFirst) {
  log(kInitiallySet);
  g().write(kPage);
  g().back_large(kLarge, 2);
  g().write(kLarge);
  g().platform.flushes.clear();
  begin();
  EXPECT_EQ(g().take_log().size(), TdpGuest::kPages);
  EXPECT_TRUE(g().platform.flushes.empty()) << "nothing was protected";
  EXPECT_EQ(g().write(kLarge + 0x5000).faults, 0u);
}

TEST_P(TdpDirty, LargePageIsProtectedWithTheFirstOfItsPagesThatIsCleared) {
  log(kInitiallySet);
  g().back_large(kLarge, 2);
  g().write(kLarge);
  begin();
  EXPECT_TRUE(clear(kLarge + 0x5000));
  EXPECT_EQ(g().take_log().size(), TdpGuest::kPages - 1);
  EXPECT_TRUE(clear(kLarge + 0x6000));
  g().write(kLarge + 0x5000);
  EXPECT_EQ(g().take_log().size(), TdpGuest::kPages - 1);
}

TEST_P(TdpDirty, LargePageSplitsAtTheWrite) {
  g().back_large(kLarge, 2);
  g().write(kLarge, 7);
  begin();
  g().read(kLarge);
  EXPECT_EQ(g().walk(kLarge).level, 2u) << "reads leave it large";
  EXPECT_EQ(g().write(kLarge + 0x3000).faults, 1u);
  EXPECT_EQ(g().walk(kLarge).level, 1u);
  EXPECT_EQ(g().read(kLarge).faults, 0u);
  EXPECT_EQ(g().read(kLarge).value, 7u);
  EXPECT_EQ(g().take_log(), std::vector{gfn(kLarge) + 3});
  EXPECT_GT(g().events(TdpEvent::kSplit), 0u);
}

// The fast path must not make a large page writable under the log.
TEST_P(TdpDirty, EveryWriteToALargePageIsLogged) {
  g().back_large(kLarge, 2);
  g().write(kLarge);
  begin();
  std::vector<Gfn> want;
  for (u64 i = 0; i < 8; ++i) {
    g().write(kLarge + i * kPageSize);
    want.push_back(gfn(kLarge) + i);
  }
  EXPECT_EQ(g().take_log(), want);
}

TEST_P(TdpDirty, LogIsEmptyWhenItIsSwitchedOnAnew) {
  begin();
  g().write(kPage);
  ASSERT_EQ(g().set_flags(0, false, false), Status::kOk);
  g().write(kOther);
  begin();
  EXPECT_TRUE(g().take_log().empty());
  g().write(kOther);
  EXPECT_EQ(g().take_log(), std::vector{gfn(kOther)});
}

TEST_P(TdpDirty, SmmsWritesAreLoggedInSmmsSlot) {
  begin();
  MemslotRequest r = g().slot(1, Gfn{0}, 4096, kTdpMemory + (u64{1} << 34));
  r.space = 1;
  r.log_dirty = true;
  ASSERT_EQ(g().set(r), Status::kOk);
  EXPECT_TRUE(g().cpu().set_smm(true));
  g().read(kPage);
  g().write(kPage);
  EXPECT_TRUE(g().cpu().set_smm(false));
  g().audit();
  EXPECT_TRUE(g().take_log().empty());
  std::vector<u64> bitmap(kWords);
  EXPECT_TRUE(g().vm().get_dirty_log(1, 1, bitmap.data(), kWords));
  EXPECT_EQ(bitmap[gfn(kPage).raw / 64], u64{1} << gfn(kPage).raw % 64);
}

}  // namespace
}  // namespace mmu::testing
