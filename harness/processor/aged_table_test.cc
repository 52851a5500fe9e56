#include "harness/processor/aged_table.h"

#include <gtest/gtest.h>

#include <list>
#include <random>

namespace twinwalk::processor {
namespace {

TEST(AgedTable, OldestGoesFirst) {
  AgedTable<int> table(4);
  table.set_limit(2);
  table.insert(10) = 1;
  table.insert(20) = 2;
  table.insert(30) = 3;
  EXPECT_EQ(table.find(10), nullptr);
  ASSERT_NE(table.find(20), nullptr);
  EXPECT_EQ(*table.find(20), 2);
  EXPECT_EQ(table.size(), 2u);
}

TEST(AgedTable, InsertedAgainIsYoungest) {
  AgedTable<int> table(2);
  table.insert(1) = 1;
  table.insert(2) = 2;
  table.insert(1) = 11;
  table.insert(3) = 3;
  EXPECT_EQ(table.find(2), nullptr);
  ASSERT_NE(table.find(1), nullptr);
  EXPECT_EQ(*table.find(1), 11);
}

TEST(AgedTable, ClearForgetsAll) {
  AgedTable<int> table(8);
  for (int i = 0; i < 8; ++i) table.insert(static_cast<std::uint64_t>(i)) = i;
  table.clear();
  EXPECT_EQ(table.size(), 0u);
  for (std::uint64_t i = 0; i < 8; ++i) EXPECT_EQ(table.find(i), nullptr);
  EXPECT_FALSE(table.any([](std::uint64_t, int) { return true; }));
}

// Against the plainest model: a list from oldest to youngest.
TEST(AgedTable, BehavesLikeAList) {
  constexpr unsigned kCapacity = 40;
  AgedTable<std::uint64_t> table(kCapacity);
  std::list<std::pair<std::uint64_t, std::uint64_t>> model;
  std::mt19937_64 random(7);
  for (std::uint64_t n = 0; n < 200'000; ++n) {
    const std::uint64_t key = random() % 97;
    switch (random() % 8) {
      case 0:
      case 1:
      case 2:
        table.insert(key) = n;
        model.remove_if([&](const auto& e) { return e.first == key; });
        if (model.size() == kCapacity) model.pop_front();
        model.emplace_back(key, n);
        break;
      case 3:
        table.erase(key);
        model.remove_if([&](const auto& e) { return e.first == key; });
        break;
      case 4:
        if (random() % 16 == 0) {
          table.erase_if([&](std::uint64_t k, std::uint64_t) { return k % 3 == key % 3; });
          model.remove_if([&](const auto& e) { return e.first % 3 == key % 3; });
        }
        break;
      default: {
        const std::uint64_t* found = table.find(key);
        auto it = model.begin();
        while (it != model.end() && it->first != key) ++it;
        ASSERT_EQ(found != nullptr, it != model.end());
        if (found) {
          ASSERT_EQ(*found, it->second);
        }
      }
    }
    ASSERT_EQ(table.size(), model.size());
    auto it = model.begin();
    const bool differs = table.any([&](std::uint64_t k, std::uint64_t v) {
      return *it++ != std::pair<std::uint64_t, std::uint64_t>(k, v);
    });
    ASSERT_FALSE(differs);
  }
}

// A group is left by erasure, by clear(), by growing too old, and for another by a new insertion.
TEST(AgedTable, KnowsWhatIsInAGroup) {
  constexpr unsigned kCapacity = 40;
  struct Row {
    std::uint64_t key, group;
  };
  AgedTable<std::uint64_t, Groups::kKept> table(kCapacity);
  std::list<Row> model;
  std::mt19937_64 random(11);
  for (std::uint64_t n = 0; n < 200'000; ++n) {
    const std::uint64_t key = random() % 97, group = random() % 9;
    switch (random() % 8) {
      case 0:
        table.erase(key);
        model.remove_if([&](const Row& r) { return r.key == key; });
        break;
      case 1:
        table.erase_in_group_if(group, [&](std::uint64_t k, std::uint64_t g) {
          EXPECT_EQ(g, group);
          return k % 2 == key % 2;
        });
        model.remove_if([&](const Row& r) { return r.group == group && r.key % 2 == key % 2; });
        break;
      case 2:
        if (random() % 32 != 0) break;
        table.clear();
        model.clear();
        break;
      default:
        table.insert(key, group) = group;
        model.remove_if([&](const Row& r) { return r.key == key; });
        if (model.size() == kCapacity) model.pop_front();
        model.push_back({key, group});
    }
    ASSERT_EQ(table.size(), model.size());
    auto it = model.begin();
    const bool differs = table.any([&](std::uint64_t k, std::uint64_t g) {
      const Row& want = *it++;
      return want.key != k || want.group != g;
    });
    ASSERT_FALSE(differs);
  }
}

}  // namespace
}  // namespace twinwalk::processor
