#include "kvm_runner/core_arena.h"

#include <gtest/gtest.h>

#include <memory>

#include "harness/trace/content.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kPage = 4096, kRegion = 2 << 20, kHpa = std::uint64_t{1} << 32;
constexpr std::uint64_t kFrames = 3 * kRegion, kTables = 4 * kPage;

class CoreArenaTest : public testing::Test {
 protected:
  // What it holds before must not matter.
  CoreArenaTest() : memory_(std::make_unique<unsigned char[]>(kFrames + kTables)) {
    for (std::uint64_t i = 0; i < kFrames + kTables; ++i) memory_[i] = 0x5a;
    arena_.use({memory_.get(), kHpa, kFrames, kTables});
    arena_.reset(true);
  }
  std::uint64_t word_in_frame(std::uint64_t offset) {
    return *reinterpret_cast<std::uint64_t*>(arena_.frame_at(arena_.frame_of(offset)) +
                                             offset % kPage);
  }
  void store(std::uint64_t offset, std::uint64_t value) {
    *reinterpret_cast<std::uint64_t*>(arena_.frame_at(arena_.frame_of(offset)) + offset % kPage) =
        value;
  }

  std::unique_ptr<unsigned char[]> memory_;
  CoreArena arena_;
};

TEST_F(CoreArenaTest, ATouchedRegionIsOneAlignedRunOfSeeds) {
  const std::uint64_t hpa = arena_.frame_of(5 * kPage);
  EXPECT_EQ(hpa % kRegion, 5 * kPage);
  EXPECT_TRUE(arena_.is_huge(0));
  EXPECT_EQ(arena_.frame_of(7 * kPage), hpa + 2 * kPage);
  EXPECT_EQ(word_in_frame(7 * kPage + 8), seed_word(7 * kPage + 8));
}

TEST_F(CoreArenaTest, WithoutHugePagesFramesComeOneByOne) {
  arena_.reset(false);
  const std::uint64_t first = arena_.frame_of(5 * kPage);
  EXPECT_EQ(arena_.frame_of(9 * kPage), first + kPage);
  EXPECT_FALSE(arena_.is_huge(0));
}

TEST_F(CoreArenaTest, WhereNoRunIsLeftPagesAreSmall) {
  for (std::uint64_t region = 0; region < 3; ++region) arena_.frame_of(region * kRegion);
  EXPECT_TRUE(arena_.is_huge(2 * kRegion));
  arena_.frame_of(3 * kRegion);
  EXPECT_FALSE(arena_.is_huge(3 * kRegion));
}

TEST_F(CoreArenaTest, ARegionThatIsKeptSmallGetsFramesOneByOne) {
  arena_.keep_small(0);
  arena_.frame_of(5 * kPage);
  EXPECT_FALSE(arena_.is_huge(0));
  EXPECT_EQ(word_in_frame(5 * kPage + 8), seed_word(5 * kPage + 8));
  arena_.frame_of(kRegion);
  EXPECT_TRUE(arena_.is_huge(kRegion));
}

TEST_F(CoreArenaTest, ALookupTellsWhatItsPartsTell) {
  arena_.share(kPage, true);
  arena_.discard(kRegion);
  for (const std::uint64_t offset : {std::uint64_t{0}, kPage, kRegion, kRegion + kPage + 8}) {
    const CoreArena::Backed backed = arena_.backing_of(offset);
    EXPECT_EQ(backed.hpa, arena_.frame_of(offset)) << offset;
    EXPECT_EQ(backed.shared, arena_.is_shared(offset)) << offset;
    EXPECT_EQ(backed.huge, arena_.is_huge(offset)) << offset;
  }
}

// The frames are those of the trace before, which had them for another place and stored to them.
TEST_F(CoreArenaTest, EveryTraceBeginsWithSeedsInAllFrames) {
  for (const std::uint64_t base : {std::uint64_t{0}, kRegion, 4 * kRegion}) {
    arena_.reset(true);
    for (std::uint64_t at = 0; at < kRegion; at += 8)
      ASSERT_EQ(word_in_frame(base + at), seed_word(base + at)) << base + at;
    for (std::uint64_t at = 0; at < kRegion; at += kPage) store(base + at, 7);
  }
}

TEST_F(CoreArenaTest, ADroppedPageSplitsTheRegionAndTheOthersStay) {
  const std::uint64_t other = arena_.frame_of(kPage);
  arena_.discard(0);
  EXPECT_FALSE(arena_.is_huge(0));
  EXPECT_EQ(arena_.frame_of(kPage), other);
  EXPECT_EQ(word_in_frame(8), 0u);
}

TEST_F(CoreArenaTest, ADroppedRegionIsAHugePageOfZeroes) {
  store(kPage, 7);
  arena_.discard_region(0);
  EXPECT_EQ(arena_.word(kPage), 0u);
  EXPECT_EQ(word_in_frame(kPage), 0u);
  EXPECT_TRUE(arena_.is_huge(0));
}

TEST_F(CoreArenaTest, AMovedRegionKeepsItsContentsInAnotherRun) {
  const std::uint64_t before = arena_.frame_of(0);
  store(kPage, 7);
  arena_.move_region(0);
  EXPECT_NE(arena_.frame_of(0), before);
  EXPECT_TRUE(arena_.is_huge(0));
  EXPECT_EQ(word_in_frame(kPage), 7u);
  EXPECT_FALSE(arena_.is_guest(before, 8));
}

TEST_F(CoreArenaTest, ASplitRegionKeepsItsFrames) {
  const std::uint64_t hpa = arena_.frame_of(kPage);
  arena_.huge_split(0);
  EXPECT_FALSE(arena_.is_huge(0));
  EXPECT_EQ(arena_.frame_of(kPage), hpa);
}

TEST_F(CoreArenaTest, CollapsedPagesKeepTheirContents) {
  arena_.discard(0);
  store(kPage, 7);
  arena_.huge_collapse(0);
  EXPECT_TRUE(arena_.is_huge(0));
  EXPECT_EQ(word_in_frame(0), 0u);
  EXPECT_EQ(word_in_frame(kPage), 7u);
  EXPECT_EQ(word_in_frame(2 * kPage), seed_word(2 * kPage));
}

TEST_F(CoreArenaTest, PagesOfTwoProtectionsDoNotCollapse) {
  arena_.huge_split(0);
  arena_.share(kPage, true);
  arena_.huge_collapse(0);
  EXPECT_FALSE(arena_.is_huge(0));
}

}  // namespace
}  // namespace twinwalk::kvm
