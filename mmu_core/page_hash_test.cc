#include "mmu_core/page_hash.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "mmu_core/testing/test_platform.h"

namespace mmu {
namespace {

using testing::LimitedPages;
using testing::RecordingPlatform;

class PageHashTest : public ::testing::Test {
 protected:
  // Hashes a page of `gfn`, the newest of all.
  void add(u64 gfn) {
    auto page = std::make_unique<ShadowPage>();
    page->gfn = Gfn{gfn};
    page->prev = nullptr;
    if (!pages_.empty()) pages_.back()->prev = page.get();
    ShadowPage*& head = hash_.chain(page->gfn);
    page->hash_next = head;
    head = page.get();
    pages_.push_back(std::move(page));
  }
  void fit() { hash_.fit(static_cast<u32>(pages_.size()), pages_.front().get()); }
  // The pages of `gfn` in the order of its chain, by their number.
  std::vector<std::size_t> found(u64 gfn) {
    std::vector<std::size_t> numbers;
    for (const ShadowPage* p = hash_.chain(Gfn{gfn}); p; p = p->hash_next) {
      if (p->gfn != Gfn{gfn}) continue;
      for (std::size_t n = 0; n < pages_.size(); ++n)
        if (pages_[n].get() == p) numbers.push_back(n);
    }
    return numbers;
  }
  std::size_t longest_chain(u64 gfns) {
    std::size_t longest = 0;
    for (u64 gfn = 0; gfn < gfns; ++gfn) {
      std::size_t n = 0;
      for (const ShadowPage* p = hash_.chain(Gfn{gfn}); p; p = p->hash_next) ++n;
      longest = std::max(longest, n);
    }
    return longest;
  }

  RecordingPlatform platform_;
  PageHash hash_{platform_};
  std::vector<std::unique_ptr<ShadowPage>> pages_;
};

TEST_F(PageHashTest, ChainsStayShortHoweverManyPagesThereAre) {
  for (u64 gfn = 0; gfn < 20'000; ++gfn) {
    add(gfn);
    fit();
  }
  EXPECT_LE(longest_chain(20'000), 8u);
  hash_.shrink();
  EXPECT_EQ(platform_.objects_in_use(), 0u);
}

TEST_F(PageHashTest, GrowthKeepsEveryPageTheNewestFirst) {
  add(7);
  for (u64 gfn = 100; gfn < 2000; ++gfn) add(gfn);
  add(7);
  fit();
  EXPECT_GT(platform_.objects_in_use(), 0u) << "it has grown";
  EXPECT_EQ(found(7), (std::vector<std::size_t>{1901, 0}));
  for (u64 gfn = 100; gfn < 2000; ++gfn)
    ASSERT_EQ(found(gfn), (std::vector<std::size_t>{gfn - 99}));
  hash_.shrink();
}

TEST_F(PageHashTest, WithoutMemoryItStaysAsItIs) {
  for (u64 gfn = 0; gfn < 2000; ++gfn) add(gfn);
  platform_.object_source = LimitedPages(0);
  fit();
  for (u64 gfn = 0; gfn < 2000; ++gfn) ASSERT_EQ(found(gfn), (std::vector<std::size_t>{gfn}));
}

}  // namespace
}  // namespace mmu
