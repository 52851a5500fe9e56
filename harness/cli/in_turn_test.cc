#include "harness/cli/in_turn.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

namespace twinwalk::cli {
namespace {

TEST(InTurn, EndsComeInOrderOneAtATime) {
  for (const unsigned workers : {1u, 2u, 4u}) {
    std::vector<std::size_t> ended;
    std::atomic<unsigned> ending = 0;
    in_turn(9, workers, [&](std::size_t n, const std::function<bool()>& wait) {
      std::this_thread::sleep_for(std::chrono::milliseconds((n * 7) % 5));
      ASSERT_TRUE(wait());
      EXPECT_EQ(++ending, 1u);
      ended.push_back(n);
      --ending;
    });
    EXPECT_EQ(ended, (std::vector<std::size_t>{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  }
}

TEST(InTurn, BeginningsOverlap) {
  std::atomic<unsigned> begun = 0;
  in_turn(2, 2, [&](std::size_t, const std::function<bool()>& wait) {
    ++begun;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (begun < 2 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    EXPECT_EQ(begun, 2u);
    wait();
  });
}

TEST(InTurn, AnErrorEndsAllAndIsTold) {
  std::vector<std::size_t> ended;
  EXPECT_THROW(in_turn(5, 3,
                       [&](std::size_t n, const std::function<bool()>& wait) {
                         if (!wait()) return;
                         if (n == 2) throw std::runtime_error("x");
                         ended.push_back(n);
                       }),
               std::runtime_error);
  EXPECT_EQ(ended, (std::vector<std::size_t>{0, 1}));
}

}  // namespace
}  // namespace twinwalk::cli
