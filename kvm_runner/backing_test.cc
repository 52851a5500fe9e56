#include "kvm_runner/backing.h"

#include <gtest/gtest.h>

#include "harness/trace/content.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kPage = 4096, kChunk = 2 << 20, kStart = 4 * kChunk;

class BackingTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string why;
    ASSERT_TRUE(backing_.open(why)) << why;
    backing_.reset(GetParam());
    ASSERT_TRUE(backing_.seed(kStart, 6 * kChunk));
  }
  void expect_seeds(std::uint64_t offset, std::uint64_t bytes) {
    for (std::uint64_t at = offset; at < offset + bytes; at += kPage / 2)
      ASSERT_EQ(backing_.word(at), seed_word(at)) << std::hex << at;
  }

  Backing backing_;
};

TEST_P(BackingTest, LiesWhereA2MPageMayLie) {
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(backing_.at(0)) % kChunk, 0u);
}

TEST_P(BackingTest, HoldsSeedsAgainAfterAReset) {
  expect_seeds(kStart, 6 * kChunk);
  backing_.word(kStart) = 1;
  backing_.word(kStart + 5 * kChunk) = 1;
  backing_.reset(!GetParam());
  ASSERT_TRUE(backing_.seed(kStart, 6 * kChunk));
  expect_seeds(kStart, 6 * kChunk);
}

TEST_P(BackingTest, SeedsOnlyWhatWasNotThere) {
  backing_.word(kStart + 8) = 0x77;
  ASSERT_TRUE(backing_.discard(kStart + kPage, kPage));
  ASSERT_TRUE(backing_.discard(0, kPage));
  ASSERT_TRUE(backing_.seed(0, kStart + kChunk));
  EXPECT_EQ(backing_.word(kStart + 8), 0x77u);
  EXPECT_EQ(backing_.word(kStart + kPage), 0u);
  EXPECT_EQ(backing_.word(0), 0u);
  expect_seeds(kPage, kStart - kPage);
}

TEST_P(BackingTest, PagesThatComeApartAndTogetherKeepWhatTheyHold) {
  backing_.word(kStart + 8) = 0x77;
  ASSERT_TRUE(backing_.discard(kStart + kPage, kPage));
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(backing_.split(kStart + 3 * kPage));
    backing_.word(kStart + 16) = 0x78;
    ASSERT_TRUE(backing_.collapse(kStart + 3 * kPage));
    EXPECT_EQ(backing_.word(kStart + 8), 0x77u);
    EXPECT_EQ(backing_.word(kStart + 16), 0x78u);
    EXPECT_EQ(backing_.word(kStart + kPage), 0u);
    expect_seeds(kStart + 2 * kPage, kChunk);
  }
  ASSERT_TRUE(backing_.collapse(20 * kChunk));
  expect_seeds(20 * kChunk, kChunk);
}

INSTANTIATE_TEST_SUITE_P(HostPages, BackingTest, testing::Bool(),
                         [](const auto& pages) { return pages.param ? "Huge" : "Small"; });

}  // namespace
}  // namespace twinwalk::kvm
