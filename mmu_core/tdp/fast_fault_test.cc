#include "mmu_core/tdp/fast_fault.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

constexpr Gpa kPage{0x40'3000};

class TdpFastFault : public ::testing::TestWithParam<TdpMachine> {
 protected:
  explicit TdpFastFault(bool fast = true) : g_(GetParam(), config(fast)) {}
  static VmConfig config(bool fast) {
    VmConfig c = GetParam().config();
    c.vcpus = 2;
    c.options.fast_fault = fast;
    c.tdp.pml = false;
    return c;
  }
  // A page whose next write must be noticed.
  void protect() {
    g_.write(kPage);
    ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  }
  void make_old() {
    g_.vm().age(hva_of(kPage), hva_of(kPage) + kPageSize, true);
    g_.audit();
  }
  // Runs `f` once, in another context, where a fast fault has read the entry.
  void underneath(const std::function<void()>& f) {
    g_.platform.on_yield = [this, f](YieldPoint point, u32) {
      if (point != YieldPoint::kAfterWalk || met_) return;
      met_ = true;
      g_.platform.running = 1;
      f();
      g_.platform.running = 0;
    };
  }
  u64 fast() const { return g_.events(TdpEvent::kFastWrite) + g_.events(TdpEvent::kFastAccess); }

  bool met_ = false;
  TdpGuest g_;
};
INSTANTIATE_TEST_SUITE_P(, TdpFastFault, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpFastFault, GivesWBackAndLogs) {
  protect();
  EXPECT_EQ(g_.write(kPage).faults, 1u);
  EXPECT_EQ(g_.events(TdpEvent::kFastWrite), 1u);
  EXPECT_EQ(g_.take_log(), std::vector{Gfn::of(kPage)});
}

TEST_P(TdpFastFault, TakesNoLock) {
  protect();
  const u64 allocated = g_.platform.tables_in_use();
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterWalk) return;
    EXPECT_FALSE(g_.platform.holds_lock(LockId::kMmu));
    EXPECT_FALSE(g_.platform.holds_mmu_lock_shared());
  };
  g_.write(kPage);
  EXPECT_EQ(g_.platform.tables_in_use(), allocated);
  EXPECT_EQ(fast(), 1u);
}

TEST_P(TdpFastFault, GivesBackWhatAgeingHid) {
  g_.write(kPage, 3);
  make_old();
  const bool hidden = !g_.machine().ad;
  EXPECT_EQ(g_.walk(kPage).present, !hidden);
  EXPECT_EQ(g_.fetch(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.events(TdpEvent::kFastAccess), hidden ? 1u : 0u);
  EXPECT_EQ(g_.write(kPage), g_.reaches(kPage));
}

TEST_P(TdpFastFault, ReadOnlySlotStaysReadOnly) {
  ASSERT_EQ(g_.set_flags(0, true, false), Status::kOk);
  g_.read(kPage);
  EXPECT_EQ(g_.write(kPage).kind, TdpOutcome::Kind::kMmio);
  EXPECT_EQ(fast(), 0u);
}

TEST_P(TdpFastFault, FrameThatTheHostLetsBeReadOnlyStaysSo) {
  g_.platform.host_page(hva_of(kPage)).writable = false;
  g_.read(kPage);
  make_old();
  EXPECT_EQ(g_.write(kPage).kind, TdpOutcome::Kind::kMmio);
  EXPECT_EQ(g_.events(TdpEvent::kFastWrite), 0u);
}

TEST_P(TdpFastFault, ZapUnderneathIsNotUndone) {
  protect();
  const Pfn old = g_.frame(kPage);
  underneath([&] {
    g_.vm().notifier_begin(hva_of(kPage), hva_of(kPage) + kPageSize);
    g_.platform.migrate(hva_of(kPage));
    g_.vm().notifier_end(hva_of(kPage), hva_of(kPage) + kPageSize);
  });
  EXPECT_EQ(g_.write(kPage), g_.reaches(kPage));
  EXPECT_TRUE(met_);
  EXPECT_NE(g_.frame(kPage), old);
}

TEST_P(TdpFastFault, TableTakenDownUnderneathStaysUntilItIsLeft) {
  protect();
  const Hpa table = g_.walk(kPage).table;
  underneath([&] {
    g_.vm().zap_all();
    EXPECT_NE(g_.platform.table_at(table), nullptr) << "somebody reads it";
  });
  EXPECT_EQ(g_.write(kPage), g_.reaches(kPage));
  EXPECT_TRUE(met_);
  EXPECT_EQ(g_.platform.table_at(table), nullptr);
}

TEST_P(TdpFastFault, LogThatBeginsUnderneathIsKept) {
  g_.write(kPage);
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  ASSERT_EQ(g_.set_flags(0, false, false), Status::kOk);
  underneath([&] { EXPECT_EQ(g_.set_flags(0, false, true), Status::kOk); });
  g_.write(kPage);
  EXPECT_TRUE(met_);
  EXPECT_EQ(g_.take_log(), std::vector{Gfn::of(kPage)});
}

TEST_P(TdpFastFault, LogThatIsTakenUnderneathMissesNothing) {
  protect();
  std::vector<Gfn> first;
  underneath([&] { first = g_.take_log(); });
  g_.write(kPage);
  EXPECT_TRUE(met_);
  EXPECT_TRUE(first.empty());
  EXPECT_EQ(g_.take_log(), std::vector{Gfn::of(kPage)});
}

class TdpSlowFault : public TdpFastFault {
 protected:
  TdpSlowFault() : TdpFastFault(false) {}
};
INSTANTIATE_TEST_SUITE_P(, TdpSlowFault, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpSlowFault, DoesTheSameUnderTheLock) {
  protect();
  make_old();
  EXPECT_EQ(g_.write(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.take_log(), std::vector{Gfn::of(kPage)});
  EXPECT_EQ(fast(), 0u);
}

}  // namespace
}  // namespace mmu::testing
