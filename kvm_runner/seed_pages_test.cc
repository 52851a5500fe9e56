#include "kvm_runner/seed_pages.h"

#include <gtest/gtest.h>

#include "harness/trace/content.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kPage = 4096, kRegion = 2 << 20;

// Where the page first differs from its seeds; kPage if nowhere.
std::uint64_t first_difference(SeedPages& pages, std::uint64_t offset) {
  const std::uint64_t* const words = pages.at(offset);
  std::uint64_t at = 0;
  while (at < kPage && words[at / 8] == seed_word(offset + at)) at += 8;
  return at;
}

TEST(SeedPages, HoldWhatATraceBeginsWith) {
  SeedPages pages;
  for (const std::uint64_t offset : {std::uint64_t{0}, kPage, kRegion - kPage, 5 * kRegion + kPage})
    EXPECT_EQ(first_difference(pages, offset), kPage) << std::hex << offset;
}

TEST(SeedPages, AreComputedOnce) {
  SeedPages pages;
  EXPECT_EQ(pages.at(3 * kPage), pages.at(3 * kPage));
}

// More places than are kept, near and far, each asked for again when others have taken its room.
TEST(SeedPages, HoldItInAnyNumberOfPlaces) {
  SeedPages pages;
  for (unsigned round = 0; round < 3; ++round) {
    for (std::uint64_t n = 0; n < 20; ++n) {
      const std::uint64_t offset = n * n * kRegion + (n + round) * kPage;
      EXPECT_EQ(first_difference(pages, offset), kPage) << std::hex << offset;
    }
  }
}

TEST(SeedPages, APlaceInUseIsNotGivenUp) {
  SeedPages pages;
  const std::uint64_t* const first = pages.at(0);
  for (std::uint64_t n = 1; n < 20; ++n) {
    pages.at(n * kRegion);
    EXPECT_EQ(pages.at(0), first) << n;
  }
}

}  // namespace
}  // namespace twinwalk::kvm
