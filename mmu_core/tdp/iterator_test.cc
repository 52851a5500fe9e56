#include "mmu_core/tdp/iterator.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "mmu_core/tdp/format.h"
#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using tdp::Iterator;
using tdp::Table;

constexpr Gpa kLarge{0x80'0000};

class TdpIterator : public ::testing::Test {
 protected:
  TdpIterator() : g_(kTdpMachines[0]) {
    g_.back_large(kLarge, 2);
    g_.read(kLarge);
    std::mt19937_64 random(7);
    for (unsigned i = 0; i < 300; ++i) g_.read(Gpa{random() % TdpGuest::kPages << 12});
  }
  Table& root() { return *g_.state().tdp.roots; }
  // The leaves that a walk comes to, yielding at every `every`-th entry that it may.
  std::multiset<u64> leaves(Gfn first, Gfn last, unsigned every) {
    std::multiset<u64> found;
    unsigned n = 0;
    for (Iterator it(root(), first, last); it.valid(); it.next()) {
      if (every && ++n % every == 0 && it.has_advanced()) {
        it.note_yield();
        continue;
      }
      if (tdp::is_leaf(it.entry(), it.level())) found.insert(it.gfn().raw);
    }
    return found;
  }
  TdpGuest g_;
};

TEST_F(TdpIterator, ComesToEveryLeafInOrder) {
  Gfn before{0};
  u64 leaves = 0;
  for (Iterator it(root(), Gfn{0}, Gfn{TdpGuest::kPages - 1}); it.valid(); it.next()) {
    EXPECT_GE(it.gfn(), before);
    before = it.gfn();
    leaves += tdp::is_leaf(it.entry(), it.level());
  }
  EXPECT_GT(leaves, 200u);
}

TEST_F(TdpIterator, EntriesAboveComeBeforeThoseBelow) {
  std::vector<unsigned> levels;
  for (Iterator it(root(), Gfn{5}, Gfn{5}); it.valid(); it.next()) levels.push_back(it.level());
  EXPECT_EQ(levels, (std::vector<unsigned>{4, 3, 2, 1}));
}

TEST_F(TdpIterator, LargeLeafThatHoldsThePageIsFound) {
  EXPECT_EQ(leaves(Gfn::of(kLarge) + 77, Gfn::of(kLarge) + 78, 0),
            std::multiset<u64>{Gfn::of(kLarge).raw});
}

// Historical: a walk that went on after a yield skipped what hung below the entry of the root.
TEST_F(TdpIterator, SkipsNothingAndRepeatsNoLeafHoweverOftenItYields) {
  std::mt19937_64 random(9);
  for (unsigned i = 0; i < 50; ++i) {
    const Gfn first{random() % TdpGuest::kPages};
    const Gfn last{first.raw + random() % (TdpGuest::kPages - first.raw)};
    const std::multiset<u64> want = leaves(first, last, 0);
    for (const unsigned every : {1u, 2u, 3u, 7u, 64u, 100u})
      EXPECT_EQ(leaves(first, last, every), want) << "yields at every " << every;
  }
}

// As next() does it one by one: to the same place, and from there on the same way.
TEST_F(TdpIterator, PassesWhatIsEmptyAsOneByOne) {
  std::mt19937_64 random(11);
  u64 passed = 0;
  for (unsigned i = 0; i < 200; ++i) {
    const Gfn first{random() % TdpGuest::kPages};
    const Gfn last{first.raw + random() % (TdpGuest::kPages - first.raw)};
    const auto most = static_cast<unsigned>(random() % 130);
    Iterator slow(root(), first, last), fast(root(), first, last);
    while (slow.valid()) {
      ASSERT_TRUE(fast.valid());
      if (!fast.entry()) {
        const unsigned n = fast.pass_empty(most);
        ASSERT_LE(n, most);
        passed += n;
        for (unsigned k = 0; k < n; ++k) {
          slow.next();
          ASSERT_EQ(slow.entry(), 0u) << "passed something";
        }
      }
      ASSERT_EQ(slow.level(), fast.level());
      ASSERT_EQ(slow.gfn(), fast.gfn());
      ASSERT_EQ(slow.entry(), fast.entry());
      ASSERT_EQ(slow.has_advanced(), fast.has_advanced());
      if (i % 2 == 0 && random() % 16 == 0 && slow.has_advanced()) {
        slow.note_yield();
        fast.note_yield();
      }
      slow.next();
      fast.next();
    }
    ASSERT_FALSE(fast.valid());
  }
  EXPECT_GT(passed, 10'000u);
}

TEST_F(TdpIterator, GoesNoFurtherThanTheRange) {
  for (Iterator it(root(), Gfn{100}, Gfn{200}); it.valid(); it.next()) {
    EXPECT_LE(it.gfn().raw, 200u);
    EXPECT_GT(it.gfn().raw + pages_of_level(it.level()), 100u);
  }
}

TEST_F(TdpIterator, StopsAtItsLevel) {
  for (Iterator it(root(), Gfn{0}, Gfn{TdpGuest::kPages - 1}, 2); it.valid(); it.next())
    EXPECT_GE(it.level(), 2u);
}

TEST_F(TdpIterator, GoesToTheEndOfTheAddressSpace) {
  const Gfn last{(u64{1} << 36) - 1};
  unsigned n = 0;
  for (Iterator it(root(), Gfn{last.raw - 10}, last); it.valid(); it.next()) ++n;
  EXPECT_EQ(n, 1u) << "the last entry of the root";
}

}  // namespace
}  // namespace mmu::testing
