// Large pages that are split and put together again, and those that may not be executed.

#include <gtest/gtest.h>

#include "mmu_core/tdp/nx_huge_pages.h"
#include "mmu_core/tdp/split.h"
#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

constexpr Gpa kLarge{0x80'0000}, kNext{0xa0'0000}, kHuge{u64{1} << 30};
constexpr u64 kLargeBytes = u64{1} << 21;

class TdpHuge : public ::testing::TestWithParam<TdpMachine> {
 protected:
  void make(const std::function<void(VmConfig&)>& adjust, u64 pages = TdpGuest::kPages) {
    VmConfig c = GetParam().config();
    c.vcpus = 2;
    adjust(c);
    guest_ = std::make_unique<TdpGuest>(GetParam(), c, pages);
    g().back_large(kLarge, 2);
    g().back_large(kNext, 2);
  }
  TdpGuest& g() { return *guest_; }
  unsigned level(Gpa gpa) { return g().walk(gpa).level; }
  u64 recover(u64 most = 100) {
    const u64 n = g().vm().recover_nx_huge_pages(most);
    g().audit();
    return n;
  }
  std::unique_ptr<TdpGuest> guest_;
};
INSTANTIATE_TEST_SUITE_P(, TdpHuge, ::testing::ValuesIn(kTdpMachines), tdp_name);

const auto kEager = [](VmConfig& c) { c.options.eager_split = true; };
const auto kNx = [](VmConfig& c) { c.options.nx_huge_pages = true; };

// ---- eager split

TEST_P(TdpHuge, LogBeginsWithSmallPages) {
  make(kEager);
  g().write(kLarge, 7);
  g().write(kNext + 0x4000, 8);
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  EXPECT_EQ(level(kLarge), 1u);
  EXPECT_EQ(level(kNext + 0x1f'f000), 1u);
  EXPECT_TRUE(g().walk(kNext + 0x1f'f000).present);
  EXPECT_EQ(g().read(kLarge).value, 7u);
  EXPECT_EQ(g().read(kNext + 0x4000).value, 8u);
  EXPECT_TRUE(g().take_log().empty());
  g().write(kNext + 0x5000);
  EXPECT_EQ(g().take_log(), std::vector{Gfn::of(kNext) + 5});
}

using TdpHuge1G = TdpHuge;
INSTANTIATE_TEST_SUITE_P(, TdpHuge1G, ::testing::ValuesIn(machines([](const TdpMachine& m) {
                           return m.levels < 5 && m.ad;
                         })),
                         tdp_name);

TEST_P(TdpHuge1G, GigabyteIsSplitToTheEnd) {
  make(kEager, u64{2} << 18);
  g().back_large(kHuge, 3);
  g().read(kHuge);
  ASSERT_EQ(level(kHuge), GetParam().levels == 3 ? 2u : 3u);
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  // A walk without an audit: there are many leaves now.
  const EntryState state = g().cpu().enter();
  const auto last = [&](Gpa gpa) { return g().walk(state, gpa); };
  EXPECT_EQ(last(kHuge).level, 1u);
  if (GetParam().levels > 3) {
    EXPECT_EQ(last(kHuge + 0x1234'5000).pfn, g().frame(kHuge + 0x1234'5000));
    EXPECT_EQ(last(kHuge + 0x3fff'f000).level, 1u);
  }
}

TEST_P(TdpHuge, WithoutMemoryTheyStayLargeAndAreProtected) {
  make(kEager);
  g().write(kLarge);
  const u64 tables = g().state().tdp.tables;
  g().platform.object_source = LimitedPages(1);
  // The log itself takes it.
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  g().platform.object_source = LimitedPages();
  EXPECT_EQ(level(kLarge), 2u);
  EXPECT_FALSE(g().walk(kLarge).write);
  EXPECT_EQ(g().state().tdp.tables, tables);
  g().write(kLarge);
  EXPECT_EQ(g().take_log(), std::vector{Gfn::of(kLarge)});
}

TEST_P(TdpHuge, ClearSplitsNoMoreThanItsRange) {
  make([](VmConfig& c) {
    c.options.eager_split = c.options.manual_clear = c.options.initially_set = true;
  });
  g().write(kLarge);
  g().write(kNext);
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  EXPECT_EQ(level(kLarge), 2u);
  const std::vector<u64> all(8, ~u64{0});
  EXPECT_TRUE(g().vm().clear_dirty_log(0, 0, Gfn::of(kLarge).raw, 512, all.data()));
  g().audit();
  EXPECT_EQ(level(kLarge + 0x1f'f000), 1u);
  EXPECT_EQ(level(kNext), 2u) << "ends where the next large page begins";
  EXPECT_TRUE(g().walk(kNext).write);
  EXPECT_TRUE(g().vm().clear_dirty_log(0, 0, Gfn::of(kNext).raw, 1, all.data()));
  g().audit();
  EXPECT_EQ(level(kNext + 0x1f'f000), 1u);
}

// The leaf changes while the memory for its parts is fetched.
TEST_P(TdpHuge, SplitLooksAgain) {
  make(kEager);
  g().write(kLarge);
  bool once = true;
  g().platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kMidWalk || !once) return;
    once = false;
    g().platform.running = 1;
    const Hva at = kTdpMemory + kLarge.raw;
    g().vm().notifier_begin(at, at + kPageSize);
    g().platform.migrate(at);
    g().vm().notifier_end(at, at + kPageSize);
    g().platform.running = 0;
  };
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  EXPECT_FALSE(once);
  g().platform.on_yield = nullptr;
  EXPECT_EQ(g().read(kLarge), g().reaches(kLarge));
}

// ---- collapse

TEST_P(TdpHuge, LargePagesComeBackWhenTheLogEnds) {
  make([](VmConfig&) {});
  g().write(kLarge);
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  g().write(kLarge + 0x3000);
  ASSERT_EQ(level(kLarge), 1u);
  g().platform.flushes.clear();
  ASSERT_EQ(g().set_flags(0, false, false), Status::kOk);
  EXPECT_FALSE(g().platform.flushes.empty());
  EXPECT_EQ(g().read(kLarge), g().reaches(kLarge));
  EXPECT_EQ(level(kLarge), 2u);
  EXPECT_EQ(g().events(TdpEvent::kCollapse), 1u);
}

TEST_P(TdpHuge, SmallHostPagesStay) {
  make([](VmConfig&) {});
  g().write(Gpa{0x40'0000});
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  ASSERT_EQ(g().set_flags(0, false, false), Status::kOk);
  EXPECT_TRUE(g().walk(Gpa{0x40'0000}).present);
  EXPECT_EQ(g().events(TdpEvent::kCollapse), 0u);
}

// ---- no large page may be executed

TEST_P(TdpHuge, LargePageIsNotExecuted) {
  make(kNx);
  g().read(kLarge);
  EXPECT_EQ(level(kLarge), 2u);
  EXPECT_FALSE(g().walk(kLarge).exec);
  EXPECT_TRUE(g().walk(kLarge).write);
}

TEST_P(TdpHuge, FetchSplitsIt) {
  make(kNx);
  g().write(kLarge, 5);
  EXPECT_EQ(g().fetch(kLarge + 0x2000), g().reaches(kLarge + 0x2000));
  EXPECT_EQ(level(kLarge), 1u);
  EXPECT_EQ(g().read(kLarge).value, 5u);
  EXPECT_EQ(g().fetch(kLarge + 0x3000).faults, 0u);
  g().read(kNext);
  EXPECT_EQ(level(kNext), 2u);
}

TEST_P(TdpHuge, FetchComesFirst) {
  make(kNx);
  EXPECT_EQ(g().fetch(kLarge), g().reaches(kLarge));
  EXPECT_EQ(level(kLarge), 1u);
  g().write(kLarge + 0x5000);
  EXPECT_EQ(level(kLarge + 0x5000), 1u) << "not given up for a large page";
  EXPECT_EQ(g().fetch(kLarge).faults, 0u);
}

TEST_P(TdpHuge, GigabyteThatIsFetchedFromKeepsItsLargePages) {
  make(kNx, u64{2} << 18);
  g().back_large(kHuge, 3);
  g().read(kHuge);
  EXPECT_EQ(g().fetch(kHuge), g().reaches(kHuge));
  EXPECT_EQ(level(kHuge), 1u);
  const Gpa other = kHuge + 4 * kLargeBytes;
  g().read(other);
  EXPECT_EQ(level(other), 2u);
}

TEST_P(TdpHuge, RecoveryGivesTheLargePageBack) {
  make(kNx);
  g().fetch(kLarge);
  g().fetch(kNext);
  g().platform.flushes.clear();
  EXPECT_EQ(recover(1), 1u);
  EXPECT_FALSE(g().platform.flushes.empty()) << "what is executable may be cached";
  EXPECT_EQ(recover(), 1u);
  EXPECT_EQ(recover(), 0u);
  g().read(kLarge);
  EXPECT_EQ(level(kLarge), 2u);
}

TEST_P(TdpHuge, RecoveryLeavesWhatIsLogged) {
  make(kNx);
  g().fetch(kLarge);
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  EXPECT_EQ(recover(), 0u);
  EXPECT_TRUE(g().walk(kLarge).present);
}

TEST_P(TdpHuge, RecoveryInSmmLooksAtSmmsMemory) {
  make(kNx);
  MemslotRequest r = g().slot(1, Gfn{0x1'0000}, 2048, kTdpMemory + (u64{1} << 34));
  r.space = 1;
  ASSERT_EQ(g().set(r), Status::kOk);
  EXPECT_TRUE(g().cpu().set_smm(true));
  g().platform.back_large(r.hva, Pfn{0x300'0000}, 2);
  g().fetch(r.gfn.base());
  EXPECT_EQ(recover(), 1u);
  EXPECT_FALSE(g().walk(r.gfn.base()).present);
}

TEST_P(TdpHuge, CollapseLeavesWhatWasSplitForExecution) {
  make(kNx);
  g().fetch(kLarge);
  ASSERT_EQ(g().set_flags(0, false, true), Status::kOk);
  ASSERT_EQ(g().set_flags(0, false, false), Status::kOk);
  EXPECT_EQ(level(kLarge), 1u);
  EXPECT_TRUE(g().walk(kLarge).exec);
}

using TdpHugeNpt = TdpHuge;
INSTANTIATE_TEST_SUITE_P(, TdpHugeNpt, ::testing::ValuesIn(machines(has_npt)), tdp_name);

TEST_P(TdpHugeNpt, ProcessorWithoutNxExecutesLargePages) {
  make([](VmConfig& c) {
    kNx(c);
    c.tdp.nx = false;
  });
  EXPECT_EQ(g().fetch(kLarge), g().reaches(kLarge));
  EXPECT_EQ(level(kLarge), 2u);
}

}  // namespace
}  // namespace mmu::testing
