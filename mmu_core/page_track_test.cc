#include "mmu_core/page_track.h"

#include <gtest/gtest.h>

#include <vector>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;
using testing::LimitedPages;
using testing::Outcome;
using Told = testing::RecordingPlatform::TrackedWrite;
using Gone = testing::RecordingPlatform::TrackedSlotGone;

constexpr Gpa kPage{0x40'3000}, kOther{0x60'5000}, kElsewhere{0x1'0000'0000}, kLarge{0x80'0000};
constexpr Gva kVa{0x1234'5660'0000}, kOtherVa = kVa + 8 * kPageSize, kLargeVa{0x2345'6660'0000};

class PageTrack : public ::testing::Test {
 protected:
  PageTrack() {
    g_.map(kVa, kPage);
    g_.map(kOtherVa, kOther);
  }
  Status track(Gpa gpa, u32 space = 0) {
    const Status s = g_.vm().track_writes(space, Gfn::of(gpa));
    g_.audit();
    return s;
  }
  bool untrack(Gpa gpa) {
    const bool was = g_.vm().untrack_writes(0, Gfn::of(gpa));
    g_.audit();
    return was;
  }
  std::vector<Told>& told() { return g_.platform.tracked_writes; }
  Guest g_;
};

TEST_F(PageTrack, StoreIsDoneByTheCoreAndTold) {
  ASSERT_EQ(track(kPage), Status::kOk);
  const Outcome o = g_.write(kVa + 0x18, 0x55);
  EXPECT_EQ(o, g_.reaches(kPage + 0x18));
  EXPECT_TRUE(o.emulated);
  EXPECT_EQ(g_.load(kPage + 0x18), 0x55u);
  EXPECT_EQ(told(), std::vector<Told>({{0, kPage + 0x18, 8}}));
}

TEST_F(PageTrack, WhatWasMappedWritableIsNoMore) {
  g_.write(kVa, 1);
  ASSERT_TRUE(g_.translation(kVa).writable());
  g_.platform.flushes.clear();
  ASSERT_EQ(track(kPage), Status::kOk);
  EXPECT_FALSE(g_.translation(kVa).writable());
  EXPECT_TRUE(g_.platform.flushed_all());
  EXPECT_TRUE(g_.write(kVa, 2).emulated);
  EXPECT_TRUE(g_.write(kVa, 3).emulated) << "nor does the store make it so";
}

TEST_F(PageTrack, ReadsAndOtherPagesAreUntouched) {
  g_.write(kOtherVa, 1);
  ASSERT_EQ(track(kPage), Status::kOk);
  g_.read(kVa);
  EXPECT_EQ(g_.read(kVa).faults, 0u);
  EXPECT_EQ(g_.write(kOtherVa, 2).faults, 0u);
  EXPECT_TRUE(told().empty());
}

TEST_F(PageTrack, CallsAreCounted) {
  ASSERT_EQ(track(kPage), Status::kOk);
  ASSERT_EQ(track(kPage), Status::kOk);
  EXPECT_TRUE(untrack(kPage));
  EXPECT_TRUE(g_.write(kVa, 1).emulated);
  EXPECT_TRUE(untrack(kPage));
  EXPECT_FALSE(g_.write(kVa, 2).emulated);
  EXPECT_EQ(g_.write(kVa, 3).faults, 0u);
  EXPECT_FALSE(untrack(kPage));
  EXPECT_EQ(told().size(), 1u);
}

TEST_F(PageTrack, CountHasAnEnd) {
  for (u32 i = 0; i < 0xffff; ++i) ASSERT_EQ(g_.vm().track_writes(0, Gfn::of(kPage)), Status::kOk);
  EXPECT_EQ(track(kPage), Status::kInvalid);
  EXPECT_TRUE(g_.write(kVa, 1).emulated);
}

TEST_F(PageTrack, WhatIsNoMemoryIsRefused) {
  EXPECT_EQ(track(kElsewhere), Status::kInvalid);
  EXPECT_EQ(track(kPage, kAddressSpaces), Status::kInvalid);
  EXPECT_FALSE(untrack(kElsewhere));
  EXPECT_FALSE(g_.vm().untrack_writes(kAddressSpaces, Gfn::of(kPage)));
}

TEST_F(PageTrack, WithoutMemoryNothingIsTracked) {
  g_.platform.object_source = LimitedPages(0);
  EXPECT_EQ(track(kElsewhere), Status::kInvalid);
  EXPECT_EQ(track(kPage), Status::kNoMemory);
  g_.platform.object_source = LimitedPages();
  EXPECT_FALSE(untrack(kPage));
  EXPECT_FALSE(g_.write(kVa, 1).emulated);
}

TEST_F(PageTrack, LargePageIsTakenApartAtTheStore) {
  g_.platform.back_large(kMemory + kLarge.raw, Pfn{0x40'0000}, 2);
  g_.map(kLargeVa, kLarge, kUsed, 2);
  g_.write(kLargeVa, 1);
  ASSERT_EQ(g_.translation(kLargeVa).level, 2u);
  ASSERT_EQ(track(kLarge + kPageSize), Status::kOk);
  EXPECT_FALSE(g_.translation(kLargeVa).writable());
  EXPECT_FALSE(g_.write(kLargeVa, 2).emulated);
  EXPECT_EQ(g_.translation(kLargeVa).level, 1u);
  EXPECT_TRUE(g_.write(kLargeVa + kPageSize, 2).emulated);
  ASSERT_TRUE(untrack(kLarge + kPageSize));
  g_.vm().zap_all();
  g_.write(kLargeVa, 3);
  EXPECT_EQ(g_.translation(kLargeVa).level, 2u);
}

TEST_F(PageTrack, NeitherPrefetchNorSyncMakesItWritable) {
  ASSERT_EQ(track(kPage), Status::kOk);
  g_.map(kVa + kPageSize, kPage);  // a neighbour, for the same page
  g_.write(kVa + 2 * kPageSize, 1);
  g_.map(kVa + 2 * kPageSize, kOther);
  g_.read(kVa + 2 * kPageSize);
  EXPECT_FALSE(g_.translation(kVa + kPageSize).writable());

  const Gva table_va{0x7000'0000'0000};
  g_.map(table_va, g_.table_of(kVa));
  g_.store_entry(g_.entry(kVa, 1), kPage.raw | (kUsed & ~pte::kW));
  g_.cpu().invlpg(kVa);
  g_.read(kVa);
  g_.write(table_va + (g_.entry(kVa, 1).raw & (kPageSize - 1)), kPage.raw | kUsed);
  g_.cpu().invlpg(kVa);
  EXPECT_FALSE(g_.translation(kVa).writable());
  EXPECT_TRUE(g_.write(kVa, 1).emulated);
}

TEST_F(PageTrack, MisalignedStoreIsToldInAlignedPieces) {
  ASSERT_EQ(track(kPage), Status::kOk);
  g_.write_physical(kPage + 0x16, 0x1122'3344'5566'7788, 8);
  EXPECT_EQ(told(),
            std::vector<Told>({{0, kPage + 0x16, 2}, {0, kPage + 0x18, 4}, {0, kPage + 0x1c, 2}}));
}

TEST_F(PageTrack, OnlyThePartInThePageIsTold) {
  ASSERT_EQ(track(kPage), Status::kOk);
  g_.write_physical(Gpa{kPage.raw - 4}, 1, 8);
  EXPECT_EQ(told(), std::vector<Told>({{0, kPage, 4}}));
}

TEST_F(PageTrack, ReadModifyWriteIsTold) {
  ASSERT_EQ(track(kPage), Status::kOk);
  g_.host_store(kPage, 5);
  const Outcome o = g_.access(kVa, Access::kRmw, 2);
  EXPECT_TRUE(o.emulated);
  EXPECT_EQ(g_.load(kPage), 7u);
  EXPECT_EQ(told(), std::vector<Told>({{0, kPage, 8}}));
}

TEST_F(PageTrack, AccessedAndDirtyOfTheGuestsEntriesAreTold) {
  const Gpa entry = g_.entry(kVa, 1);
  g_.store_entry(entry, kPage.raw | kRights);
  ASSERT_EQ(track(Gpa{entry.raw & ~(kPageSize - 1)}), Status::kOk);
  EXPECT_FALSE(g_.write(kVa, 1).emulated);
  ASSERT_EQ(told().size(), 1u);
  EXPECT_EQ(told()[0], (Told{0, entry, 8}));
}

TEST_F(PageTrack, ShadowedTableMayBeTrackedToo) {
  const Gva table_va{0x7000'0000'0000};
  g_.map(table_va, g_.table_of(kVa));
  g_.read(kVa);
  ASSERT_EQ(track(g_.table_of(kVa)), Status::kOk);
  const Gpa entry = g_.entry(kVa, 1);
  // Never unsync: each store is seen at once.
  EXPECT_TRUE(g_.write(table_va + (entry.raw & (kPageSize - 1)), kOther.raw | kUsed).emulated);
  EXPECT_EQ(g_.read(kVa), g_.reaches(kOther));
  EXPECT_EQ(told().size(), 1u);
  ASSERT_TRUE(untrack(g_.table_of(kVa)));
  EXPECT_FALSE(g_.write(table_va + (entry.raw & (kPageSize - 1)), kPage.raw | kUsed).emulated);
  g_.cpu().invlpg(kVa);
  EXPECT_EQ(g_.read(kVa), g_.reaches(kPage));
}

TEST_F(PageTrack, DeletedOrMovedSlotIsTold) {
  g_.add_slot(1, Gfn::of(kElsewhere), 16, kMemory + (u64{1} << 34));
  ASSERT_EQ(track(kElsewhere + kPageSize), Status::kOk);
  using Kind = MemslotRequest::Kind;
  const Gfn moved = Gfn::of(kElsewhere) + 64;
  ASSERT_EQ(g_.slot_request(Kind::kMove, 1, moved), Status::kOk);
  EXPECT_EQ(g_.platform.tracked_slots_gone, std::vector<Gone>({{0, Gfn::of(kElsewhere), 16}}));
  EXPECT_FALSE(untrack(moved.base() + kPageSize));
  ASSERT_EQ(track(moved.base()), Status::kOk);
  ASSERT_EQ(g_.slot_request(Kind::kDelete, 1), Status::kOk);
  ASSERT_EQ(g_.platform.tracked_slots_gone.size(), 2u);
  EXPECT_EQ(g_.platform.tracked_slots_gone[1], (Gone{0, moved, 16}));
}

TEST_F(PageTrack, SlotInWhichNothingIsTrackedGoesUnnoticed) {
  g_.add_slot(1, Gfn::of(kElsewhere), 16, kMemory + (u64{1} << 34));
  ASSERT_EQ(track(kElsewhere), Status::kOk);
  ASSERT_TRUE(untrack(kElsewhere));
  ASSERT_EQ(g_.slot_request(MemslotRequest::Kind::kDelete, 1), Status::kOk);
  EXPECT_TRUE(g_.platform.tracked_slots_gone.empty());
}

TEST_F(PageTrack, ChangeOfFlagsLeavesItAsItIs) {
  ASSERT_EQ(track(kPage), Status::kOk);
  for (const bool read_only : {true, false})
    ASSERT_EQ(g_.slot_request(MemslotRequest::Kind::kFlags, 0, Gfn{}, read_only, !read_only),
              Status::kOk);
  EXPECT_TRUE(g_.platform.tracked_slots_gone.empty());
  EXPECT_TRUE(g_.write(kVa, 1).emulated);
  EXPECT_EQ(told().size(), 1u);
}

// A fault that makes the part of the slot between the look and the lock.
TEST_F(PageTrack, FaultMayBeQuicker) {
  bool done = false;
  g_.platform.before_alloc_object = [&](u64 size) {
    if (size != sizeof(SlotChunk) || done) return;
    done = true;
    g_.platform.running = 1;
    g_.write(kVa, 1);
    g_.platform.running = 0;
  };
  ASSERT_EQ(track(kPage), Status::kOk);
  EXPECT_TRUE(done);
  EXPECT_TRUE(g_.write(kVa, 1).emulated);
}

}  // namespace
}  // namespace mmu
