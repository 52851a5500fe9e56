#include "mmu_core/tdp/attributes.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "mmu_core/tdp/private_ranges.h"
#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using Kind = TdpOutcome::Kind;

// ---- ranges

TEST(PrivateRanges, AgreeWithABitmap) {
  constexpr u64 kGfns = 200;
  std::mt19937_64 random(1);
  tdp::PrivateRanges ranges;
  std::vector<bool> want(kGfns + 64);
  for (unsigned step = 0; step < 5000; ++step) {
    const u64 first = random() % kGfns, pages = 1 + random() % 20;
    const bool on = random() % 2;
    ASSERT_TRUE(ranges.set(Gfn{first}, pages, on));
    for (u64 i = 0; i < pages; ++i) want[first + i] = on;
    for (u64 i = 0; i < kGfns; ++i) ASSERT_EQ(ranges.contains(Gfn{i}), want[i]) << step;
    const u64 at = random() % kGfns, n = 1 + random() % 16;
    bool uniform = true;
    for (u64 i = 1; i < n; ++i) uniform &= want[at + i] == want[at];
    ASSERT_EQ(ranges.uniform(Gfn{at}, n), uniform) << step;
  }
}

TEST(PrivateRanges, AreLimited) {
  tdp::PrivateRanges ranges;
  for (u64 i = 0; i < tdp::PrivateRanges::kMost; ++i) EXPECT_TRUE(ranges.set(Gfn{i * 2}, 1, true));
  EXPECT_FALSE(ranges.set(Gfn{1000}, 1, true));
  EXPECT_FALSE(ranges.contains(Gfn{1000}));
  EXPECT_TRUE(ranges.set(Gfn{1}, 1, true)) << "two become one";
  EXPECT_TRUE(ranges.set(Gfn{1000}, 1, true));
  EXPECT_FALSE(ranges.set(Gfn{1}, 1, false)) << "one becomes two";
  EXPECT_TRUE(ranges.contains(Gfn{1}));
}

// ---- attributes

constexpr Gpa kPage{0x40'3000}, kLarge{0x80'0000};

class TdpAttributes : public ::testing::TestWithParam<TdpMachine> {
 protected:
  static VmConfig config() {
    VmConfig c = GetParam().config();
    c.vcpus = 2;
    c.shared_bit = kSharedBit;
    return c;
  }
  Status set(Gpa gpa, u64 pages, bool is_private) {
    const Status s = g_.vm().set_private(Gfn::of(gpa), pages, is_private);
    g_.audit();
    return s;
  }
  TdpGuest g_{GetParam(), config()};
};
INSTANTIATE_TEST_SUITE_P(, TdpAttributes, ::testing::ValuesIn(machines(has_ept)), tdp_name);

TEST_P(TdpAttributes, MemoryIsSharedAtFirst) {
  EXPECT_EQ(g_.read(shared(kPage)), g_.reaches(kPage));
  EXPECT_EQ(g_.read(kPage), ended(Kind::kMemoryFault));
}

TEST_P(TdpAttributes, PrivateMemoryIsReachedAsPrivateOnly) {
  g_.read(shared(kPage));
  ASSERT_EQ(set(kPage, 1, true), Status::kOk);
  EXPECT_EQ(g_.read(shared(kPage)), ended(Kind::kMemoryFault));
  EXPECT_EQ(g_.write(kPage, 5), g_.reaches(kPage));
  EXPECT_EQ(g_.read(shared(kPage + kPageSize)), g_.reaches(kPage + kPageSize));
  ASSERT_EQ(set(kPage, 1, false), Status::kOk);
  EXPECT_EQ(g_.read(kPage), ended(Kind::kMemoryFault));
  EXPECT_EQ(g_.read(shared(kPage)).value, 5u);
}

TEST_P(TdpAttributes, RootsAreTwo) {
  const EntryState e = g_.cpu().enter();
  EXPECT_NE(e.private_pointer, 0u);
  EXPECT_NE(e.private_pointer, e.tdp_pointer);
  EXPECT_TRUE(g_.cpu().set_smm(true));
  EXPECT_EQ(g_.cpu().enter().private_pointer, 0u);
}

TEST_P(TdpAttributes, FlushNamesTheAddressesOfTheHardware) {
  g_.read(shared(kPage));
  g_.platform.flushes.clear();
  ASSERT_EQ(set(kPage, 1, true), Status::kOk);
  ASSERT_EQ(g_.platform.flushes.size(), 1u);
  EXPECT_EQ(g_.platform.flushes[0].gfn, Gfn::of(shared(kPage)));
}

TEST_P(TdpAttributes, MixedLargePageIsMappedSmall) {
  g_.back_large(kLarge, 2);
  g_.read(shared(kLarge));
  ASSERT_EQ(g_.walk(shared(kLarge)).level, 2u);
  ASSERT_EQ(set(kLarge + 0x5000, 3, true), Status::kOk);
  EXPECT_EQ(g_.read(shared(kLarge)), g_.reaches(kLarge));
  EXPECT_EQ(g_.walk(shared(kLarge)).level, 1u);
  EXPECT_EQ(g_.read(kLarge + 0x5000), g_.reaches(kLarge + 0x5000));
  EXPECT_EQ(g_.walk(kLarge + 0x5000).level, 1u);
  ASSERT_EQ(set(kLarge, 512, true), Status::kOk);
  EXPECT_EQ(g_.read(kLarge), g_.reaches(kLarge));
  EXPECT_EQ(g_.walk(kLarge).level, 2u);
}

TEST_P(TdpAttributes, RangeAtTheEdgesOfASlot) {
  const u64 last = TdpGuest::kPages - 1;
  ASSERT_EQ(g_.set(g_.slot(1, Gfn{0x1'0003}, 1021, kTdpMemory + (u64{1} << 34) + 0x3000)),
            Status::kOk);
  EXPECT_EQ(set(Gpa{last << 12}, 1, true), Status::kOk);
  EXPECT_EQ(set(Gpa{u64{0x1'0000} << 12}, 8, true), Status::kOk) << "begins before the slot";
  EXPECT_EQ(set(Gpa{u64{0x1'03ff} << 12}, 4000, true), Status::kOk) << "ends behind it";
  EXPECT_EQ(set(Gpa{0}, kSharedBit >> 12, true), Status::kOk);
  EXPECT_EQ(set(Gpa{0}, kSharedBit >> 12, false), Status::kOk);
}

TEST_P(TdpAttributes, OutliveTheirSlot) {
  ASSERT_EQ(set(kLarge + 0x5000, 1, true), Status::kOk);
  MemslotRequest r;
  r.kind = MemslotRequest::Kind::kDelete;
  ASSERT_EQ(g_.set(r), Status::kOk);
  ASSERT_EQ(g_.set(g_.slot(0, Gfn{0}, TdpGuest::kPages, kTdpMemory)), Status::kOk);
  EXPECT_EQ(g_.read(kLarge + 0x5000), g_.reaches(kLarge + 0x5000));
  EXPECT_EQ(g_.read(kLarge), ended(Kind::kMemoryFault));
}

TEST_P(TdpAttributes, FaultThatAConversionOvertakes) {
  bool once = true;
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    EXPECT_EQ(set(kPage, 1, true), Status::kOk);
  };
  EXPECT_EQ(g_.read(shared(kPage)), ended(Kind::kMemoryFault));
  EXPECT_FALSE(once);
}

TEST_P(TdpAttributes, HostTakesBothKinds) {
  g_.read(shared(kPage));
  ASSERT_EQ(set(kPage + kPageSize, 1, true), Status::kOk);
  g_.read(kPage + kPageSize);
  g_.invalidate(kPage, 2);
  EXPECT_FALSE(g_.walk(shared(kPage)).present);
  EXPECT_FALSE(g_.walk(kPage + kPageSize).present);
}

TEST_P(TdpAttributes, SlotsLieBelowTheSharedBit) {
  EXPECT_EQ(g_.set(g_.slot(1, Gfn{(kSharedBit >> 12) - 1}, 2, kTdpMemory)), Status::kInvalid);
}

TEST_P(TdpAttributes, PrefaultOfEitherKind) {
  ASSERT_EQ(set(kPage, 2, true), Status::kOk);
  EXPECT_EQ(g_.cpu().prefault(kPage, 4), 2u);
  EXPECT_EQ(g_.cpu().prefault(shared(kPage + 2 * kPageSize), 4), 4u);
  EXPECT_EQ(g_.cpu().prefault(shared(kPage), 4), 0u);
  g_.audit();
}

TEST_P(TdpAttributes, WriteToSharedMemoryIsLogged) {
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  g_.read(shared(kPage));
  g_.write(shared(kPage));
  EXPECT_EQ(g_.take_log(), std::vector{Gfn::of(kPage)});
}

TEST_P(TdpAttributes, OfWhatIsNone) {
  EXPECT_EQ(set(kPage, 0, true), Status::kInvalid);
  EXPECT_EQ(set(shared(kPage), 1, true), Status::kInvalid);
  EXPECT_EQ(set(kPage, kSharedBit >> 12, true), Status::kInvalid);
  TdpGuest plain(GetParam());
  EXPECT_EQ(plain.vm().set_private(Gfn{1}, 1, true), Status::kInvalid);
}

}  // namespace
}  // namespace mmu::testing
