#include "mmu_core/rmap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "mmu_core/memory_cache.h"
#include "mmu_core/testing/test_platform.h"

namespace mmu {
namespace {

using testing::RecordingPlatform;

// Chains that are empty, in place, just fill a descriptor, and just spill into the next and the one
// after.
class RmapChainOf : public ::testing::TestWithParam<u32> {
 protected:
  RmapChainOf() {
    for (u32 i = 0; i < GetParam(); ++i) add(i);
  }
  void TearDown() override { caches_.drain(); }

  SpteRef ref(u32 i) { return {&page_[i / kEntries], i % kEntries}; }
  void add(u32 i) {
    ASSERT_TRUE(caches_.top_up());
    chain::add(head_, ref(i), caches_);
  }
  bool remove(u32 i) { return chain::remove(head_, ref(i), platform_); }
  void remove_all() {
    while (!chain::empty(head_)) ASSERT_TRUE(chain::remove(head_, chain::front(head_), platform_));
  }
  // The refs that the chain holds, sorted by index.
  std::vector<u32> held() const {
    std::vector<u32> indices;
    chain::for_each(head_, [&](SpteRef r) {
      indices.push_back(static_cast<u32>(r.page - page_) * kEntries + r.index);
      return true;
    });
    std::sort(indices.begin(), indices.end());
    return indices;
  }
  static std::vector<u32> first(u32 n) {
    std::vector<u32> indices(n);
    std::iota(indices.begin(), indices.end(), 0u);
    return indices;
  }

  RecordingPlatform platform_;
  MemoryCaches caches_{platform_};
  ShadowPage page_[2];
  RmapHead head_;
};

INSTANTIATE_TEST_SUITE_P(Lengths, RmapChainOf,
                         ::testing::Values(0u, 1u, 2u, 14u, 15u, 28u, 29u, 40u));

TEST_P(RmapChainOf, HoldsWhatWasAdded) {
  EXPECT_EQ(held(), first(GetParam()));
  remove_all();
}

TEST_P(RmapChainOf, RemovesFromTheFront) {
  std::vector<u32> left = first(GetParam());
  for (u32 i = 0; i < GetParam(); ++i) {
    ASSERT_TRUE(remove(i)) << "ref " << i;
    left.erase(left.begin());
    ASSERT_EQ(held(), left) << "after ref " << i;
  }
  EXPECT_TRUE(chain::empty(head_));
}

TEST_P(RmapChainOf, RemovesFromTheBack) {
  for (u32 i = GetParam(); i-- > 0;) {
    ASSERT_TRUE(remove(i)) << "ref " << i;
    ASSERT_EQ(held(), first(i)) << "after ref " << i;
  }
  EXPECT_TRUE(chain::empty(head_));
}

TEST_P(RmapChainOf, RemovesFromTheMiddle) {
  std::vector<u32> left = first(GetParam());
  while (!left.empty()) {
    const auto middle = left.begin() + static_cast<std::ptrdiff_t>(left.size() / 2);
    ASSERT_TRUE(remove(*middle)) << "ref " << *middle;
    left.erase(middle);
    ASSERT_EQ(held(), left);
  }
  EXPECT_TRUE(chain::empty(head_));
}

TEST_P(RmapChainOf, DoesNotFindWhatIsNotThere) {
  EXPECT_FALSE(remove(kEntries));  // same index as ref 0, other page
  EXPECT_EQ(held(), first(GetParam()));
  remove_all();
}

TEST_P(RmapChainOf, StopsWhenTold) {
  u32 seen = 0;
  chain::for_each(head_, [&](SpteRef) { return ++seen < 3; });
  EXPECT_EQ(seen, std::min(GetParam(), 3u));
  remove_all();
}

TEST_P(RmapChainOf, TakesRefsAgainAfterAllWereRemoved) {
  remove_all();
  add(7);
  EXPECT_EQ(held(), std::vector<u32>{7});
  remove_all();
}

TEST(SpteRef, PacksPageAndIndex) {
  ShadowPage page;
  for (const unsigned index : {0u, 1u, 255u, 511u}) {
    const SpteRef ref{&page, index};
    EXPECT_EQ(SpteRef::unpack(ref.pack()), ref) << "index " << index;
    EXPECT_EQ(ref.pack() & 1, 1u) << "the mark of a ref in place";
  }
}

}  // namespace
}  // namespace mmu
