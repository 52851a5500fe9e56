#include "mmu_core/guest_memory.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/test_platform.h"

namespace mmu {
namespace {

using Result = GuestMemory::Result;
using testing::RecordingPlatform;

constexpr Hva kHost{0x7f00'0000'0000};
constexpr Gfn kBase{0x80};
constexpr u64 kPages = 0x100;
constexpr Gpa kGpa{0x85'008};  // 5 pages into the slot
constexpr Hva kHva = kHost + 0x5'008;

class GuestMemoryTest : public ::testing::Test {
 protected:
  GuestMemoryTest() {
    MemslotRequest request;
    request.gfn = kBase;
    request.pages = kPages;
    request.hva = kHost;
    request.log_dirty = true;
    EXPECT_EQ(slots_.publish(request), Status::kOk);
    slots_.finish_update();
  }
  ~GuestMemoryTest() override { slots_.clear(); }

  void make_read_only() {
    MemslotRequest request;
    request.kind = MemslotRequest::Kind::kFlags;
    request.read_only = request.log_dirty = true;
    ASSERT_EQ(slots_.publish(request), Status::kOk);
    slots_.finish_update();
  }
  u64 dirty_word(unsigned index) { return slots_.by_id(0)->arrays.dirty[index]; }

  RecordingPlatform platform_;
  Memslots slots_{platform_};
  GuestMemory memory_{platform_, slots_};
};

TEST_F(GuestMemoryTest, ReadsWhatTheHostHolds) {
  platform_.store(kHva, 0x1122'3344'5566'7788);
  u64 value = 0;
  EXPECT_EQ(memory_.read(kGpa, 8, value), Result::kOk);
  EXPECT_EQ(value, 0x1122'3344'5566'7788u);
  EXPECT_EQ(memory_.read(kGpa + 4, 2, value), Result::kOk);
  EXPECT_EQ(value, 0x3344u);
  EXPECT_EQ(dirty_word(0), 0u);
}

TEST_F(GuestMemoryTest, WriteMarksItsPageDirty) {
  EXPECT_EQ(memory_.write(kGpa, 4, 0xaabb'ccdd), Result::kOk);
  EXPECT_EQ(platform_.load(kHva), 0xaabb'ccddu);
  EXPECT_EQ(dirty_word(0), u64{1} << 5);
  EXPECT_EQ(memory_.write((kBase + 127).base(), 1, 1), Result::kOk);
  EXPECT_EQ(dirty_word(1), u64{1} << 63);
}

TEST_F(GuestMemoryTest, CompareExchangeMarksDirtyOnlyWhenItStored) {
  platform_.store(kHva, 1);
  EXPECT_EQ(memory_.compare_exchange(kGpa, 8, 2, 3), Result::kRaced);
  EXPECT_EQ(platform_.load(kHva), 1u);
  EXPECT_EQ(dirty_word(0), 0u);
  EXPECT_EQ(memory_.compare_exchange(kGpa, 8, 1, 3), Result::kOk);
  EXPECT_EQ(platform_.load(kHva), 3u);
  EXPECT_EQ(dirty_word(0), u64{1} << 5);
}

TEST_F(GuestMemoryTest, OutsideAllSlots) {
  u64 value = 7;
  EXPECT_EQ(memory_.read((kBase + kPages).base(), 8, value), Result::kNoSlot);
  EXPECT_EQ(memory_.write(Gpa{0}, 8, 1), Result::kNoSlot);
  EXPECT_EQ(value, 7u);
}

TEST_F(GuestMemoryTest, SlotThatIsGoingAwayIsNeitherThereNorGone) {
  ASSERT_EQ(slots_.publish_invalid(0), Status::kOk);
  u64 value;
  EXPECT_EQ(memory_.read(kGpa, 8, value), Result::kSlotLeaves);
}

TEST_F(GuestMemoryTest, ReadOnlySlotIsReadButNotWritten) {
  platform_.store(kHva, 9);
  make_read_only();
  u64 value = 0;
  EXPECT_EQ(memory_.read(kGpa, 8, value), Result::kOk);
  EXPECT_EQ(memory_.write(kGpa, 8, 1), Result::kReadOnly);
  EXPECT_EQ(memory_.compare_exchange(kGpa, 8, 9, 1), Result::kReadOnly);
  EXPECT_EQ(platform_.load(kHva), 9u);
  EXPECT_EQ(dirty_word(0), 0u);
}

TEST_F(GuestMemoryTest, HostPageThatIsNotWritableOrNotThere) {
  u64 value = 0;
  platform_.host_page(kHva).writable = false;
  EXPECT_EQ(memory_.read(kGpa, 8, value), Result::kOk);
  EXPECT_EQ(memory_.write(kGpa, 8, 1), Result::kReadOnly);
  for (const auto kind : {FrameLookup::Kind::kNoFrame, FrameLookup::Kind::kPoisoned}) {
    platform_.host_page(kHva).kind = kind;
    EXPECT_EQ(memory_.read(kGpa, 8, value), Result::kNoFrame);
    EXPECT_EQ(memory_.write(kGpa, 8, 1), Result::kNoFrame);
  }
}

TEST_F(GuestMemoryTest, AliasedHostPagesAreOneMemory) {
  platform_.back_with(kHost + 0x6000, kHost + 0x5000);
  EXPECT_EQ(memory_.write(kGpa, 8, 42), Result::kOk);
  u64 value = 0;
  EXPECT_EQ(memory_.read(kGpa + kPageSize, 8, value), Result::kOk);
  EXPECT_EQ(value, 42u);
}

}  // namespace
}  // namespace mmu
