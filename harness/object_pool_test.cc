#include "harness/object_pool.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "harness/poison.h"

namespace twinwalk {
namespace {

TEST(ObjectPool, ObjectsAreAlignedAndApart) {
  ObjectPool pool;
  std::set<std::uint8_t*> starts;
  for (const std::uint64_t bytes : {1u, 16u, 17u, 100u, 4096u, 5000u}) {
    auto* p = static_cast<std::uint8_t*>(pool.allocate(bytes));
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 16, 0u);
    std::memset(p, 0xff, bytes);
    EXPECT_TRUE(starts.insert(p).second);
  }
  EXPECT_EQ(pool.live(), 6u);
}

TEST(ObjectPool, FreedObjectsWaitAndComeAgain) {
  ObjectPool pool;
  void* first = pool.allocate(40);
  std::memset(first, 0xff, 40);
  EXPECT_TRUE(pool.release(first, 40));
#ifdef TWINWALK_ASAN
  EXPECT_TRUE(__asan_address_is_poisoned(first));
#endif
  bool again = false;
  for (unsigned i = 0; i < 200; ++i) {
    auto* p = static_cast<std::uint8_t*>(pool.allocate(40));
    if (i < 64) {
      EXPECT_NE(p, first);
    }
    again |= p == first;
#ifdef TWINWALK_ASAN
    for (unsigned n = 0; n < 40; ++n) ASSERT_EQ(p[n], 0xa5) << "junk, but always the same";
#endif
    EXPECT_TRUE(pool.release(p, 40));
  }
  EXPECT_TRUE(again);
  EXPECT_EQ(pool.live(), 0u);
}

TEST(ObjectPool, RefusesWhatIsNotLive) {
  ObjectPool pool;
  void* p = pool.allocate(40);
  EXPECT_FALSE(pool.release(p, 41));
  EXPECT_TRUE(pool.release(p, 40));
  EXPECT_FALSE(pool.release(p, 40));
  std::uint64_t strange[8] = {};
  EXPECT_FALSE(pool.release(strange, 40));
  EXPECT_FALSE(pool.release(nullptr, 40));
}

TEST(ObjectPool, ExhaustionIsNull) {
  ObjectPool pool;
  EXPECT_EQ(pool.allocate(std::uint64_t{1} << 40), nullptr);
  EXPECT_EQ(pool.allocate(0), nullptr);
}

}  // namespace
}  // namespace twinwalk
