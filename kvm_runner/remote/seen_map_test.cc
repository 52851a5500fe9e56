#include "kvm_runner/remote/seen_map.h"

#include <gtest/gtest.h>

namespace twinwalk::remote {
namespace {

std::vector<Seen> news_of(SeenMap& map) {
  const std::string text = map.take_news();
  std::vector<Seen> seen;
  EXPECT_TRUE(read_seen({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}, seen));
  return seen;
}

void meet(SeenMap& map, std::uint64_t feature, unsigned times) {
  for (unsigned i = 0; i < times; ++i) map.meet(feature);
}

TEST(SeenMap, TellsOnlyWhatIsNew) {
  SeenMap map;
  meet(map, 7, 1);
  meet(map, 300, 1);
  EXPECT_EQ(news_of(map), (std::vector<Seen>{{7, 1}, {300, 1}}));
  meet(map, 7, 1);
  EXPECT_TRUE(news_of(map).empty());
  meet(map, 300, 1);
  meet(map, 8, 1);
  EXPECT_EQ(news_of(map), (std::vector<Seen>{{8, 1}}));
}

TEST(SeenMap, MoreOfTheSameIsNewByOrderOfMagnitude) {
  SeenMap map;
  const std::pair<unsigned, unsigned> kBits[] = {{1, 0x01},  {2, 0x02},  {3, 0x04},   {5, 0x08},
                                                 {15, 0x10}, {31, 0x20}, {127, 0x40}, {1000, 0x80}};
  for (const auto& [times, bit] : kBits) {
    meet(map, 9, times);
    const std::vector<Seen> news = news_of(map);
    ASSERT_EQ(news.size(), 1u) << times;
    EXPECT_EQ(news[0].bits, bit) << times;
  }
  meet(map, 9, 6);
  EXPECT_TRUE(news_of(map).empty());
}

TEST(SeenMap, WhatIsForgottenIsNotKnown) {
  SeenMap map;
  meet(map, 9, 1);
  map.forget();
  EXPECT_TRUE(news_of(map).empty());
  meet(map, 9, 1);
  EXPECT_EQ(news_of(map).size(), 1u);
}

TEST(SeenMap, TextThatNoMapWroteIsRefused) {
  std::vector<Seen> seen;
  for (const std::vector<std::uint8_t>& text :
       {std::vector<std::uint8_t>{1, 2}, {1, 2, 3, 4}, {0, 0x40, 1}, {1, 2, 0}})
    EXPECT_FALSE(read_seen(text, seen));
}

TEST(SeenMap, FeaturesDifferByEveryWordAndItsPlace) {
  constexpr std::uint64_t kName = feature_of("kvm_mmu_get_page");
  EXPECT_NE(kName, feature_of("kvm_mmu_sync_page"));
  EXPECT_NE(feature_of(feature_of(kName, 1), 2), feature_of(feature_of(kName, 2), 1));
  EXPECT_NE(feature_of(kName, 0), kName);
}

}  // namespace
}  // namespace twinwalk::remote
