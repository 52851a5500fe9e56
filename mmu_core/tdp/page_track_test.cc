// Write tracking by others, in two dimensions.

#include "mmu_core/page_track.h"

#include <gtest/gtest.h>

#include <vector>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using Told = RecordingPlatform::TrackedWrite;
using Gone = RecordingPlatform::TrackedSlotGone;

constexpr Gpa kPage{0x40'3000}, kOther{0x60'5000}, kLarge{0x80'0000};

class TdpPageTrack : public ::testing::TestWithParam<TdpMachine> {
 protected:
  Status track(Gpa gpa) {
    const Status s = g_.vm().track_writes(0, Gfn::of(gpa));
    g_.audit();
    return s;
  }
  bool untrack(Gpa gpa) {
    const bool was = g_.vm().untrack_writes(0, Gfn::of(gpa));
    g_.audit();
    return was;
  }
  TdpGuest g_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(, TdpPageTrack, ::testing::ValuesIn(kTdpMachines), tdp_name);

constexpr auto kEmulated = TdpOutcome::Kind::kEmulate;

TEST_P(TdpPageTrack, StoreIsTheCores) {
  ASSERT_EQ(track(kPage), Status::kOk);
  EXPECT_EQ(g_.write(kPage).kind, kEmulated);
  EXPECT_EQ(g_.events(TdpEvent::kTrackedWrite), 1u);
  EXPECT_EQ(g_.cpu().write_physical(kPage, 8, 0x55).kind, EmulateResult::Kind::kDone);
  EXPECT_EQ(g_.read(kPage).value, 0x55u);
  EXPECT_EQ(g_.platform.tracked_writes, std::vector<Told>({{0, kPage, 8}}));
}

TEST_P(TdpPageTrack, WhatWasMappedWritableIsNoMore) {
  g_.write(kPage);
  g_.write(kOther);
  g_.platform.flushes.clear();
  ASSERT_EQ(track(kPage), Status::kOk);
  EXPECT_FALSE(g_.platform.flushes.empty());
  EXPECT_EQ(g_.events(TdpEvent::kTrackProtect), 1u);
  EXPECT_EQ(g_.write(kPage).kind, kEmulated);
  EXPECT_EQ(g_.write(kPage).kind, kEmulated);
  EXPECT_EQ(g_.read(kPage).faults, 0u);
  EXPECT_EQ(g_.write(kOther).faults, 0u);
  ASSERT_TRUE(untrack(kPage));
  EXPECT_EQ(g_.write(kPage), g_.reaches(kPage));
}

// P01: what the dirty log had made read-only came back writable without anybody asking.
TEST_P(TdpPageTrack, LockFreeFaultDoesNotMakeItWritable) {
  g_.write(kPage);
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  g_.take_log();
  ASSERT_EQ(track(kPage), Status::kOk);
  EXPECT_EQ(g_.write(kPage).kind, kEmulated);
  EXPECT_EQ(g_.events(TdpEvent::kFastWrite), 0u);
}

// Nor does it where it restores what access tracking took away.
TEST_P(TdpPageTrack, OldPageBecomesYoungAndStaysReadOnly) {
  g_.write(kPage);
  const Hva hva = kTdpMemory + kPage.raw;
  g_.vm().age(hva, hva + kPageSize, true);
  ASSERT_EQ(track(kPage), Status::kOk);
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.write(kPage).kind, kEmulated);
}

TEST_P(TdpPageTrack, LargePageIsTakenApartAtTheStore) {
  g_.back_large(kLarge, 2);
  g_.write(kLarge);
  ASSERT_EQ(g_.walk(kLarge).level, 2u);
  ASSERT_EQ(track(kLarge + kPageSize), Status::kOk);
  EXPECT_FALSE(g_.walk(kLarge).write);
  EXPECT_EQ(g_.write(kLarge), g_.reaches(kLarge));
  EXPECT_EQ(g_.walk(kLarge).level, 1u);
  EXPECT_EQ(g_.write(kLarge + kPageSize).kind, kEmulated);
  ASSERT_TRUE(untrack(kLarge + kPageSize));
  g_.vm().zap_all();
  g_.write(kLarge);
  EXPECT_EQ(g_.walk(kLarge).level, 2u);
}

TEST_P(TdpPageTrack, DeletedSlotIsTold) {
  ASSERT_EQ(track(kPage), Status::kOk);
  MemslotRequest r;
  r.kind = MemslotRequest::Kind::kDelete;
  ASSERT_EQ(g_.set(r), Status::kOk);
  EXPECT_EQ(g_.platform.tracked_slots_gone, std::vector<Gone>({{0, Gfn{}, TdpGuest::kPages}}));
}

}  // namespace
}  // namespace mmu::testing
