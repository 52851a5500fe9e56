#include "harness/core/fibers.h"

#include <gtest/gtest.h>

#include <string>

namespace twinwalk {
namespace {

struct Diary {
  Fibers fibers;
  std::string text;
  unsigned inner = 0;
};

TEST(Fibers, RunsToItsEndOnAStackOfItsOwn) {
  Diary d;
  const unsigned n = d.fibers.start(
      [](void* p) {
        auto& diary = *static_cast<Diary*>(p);
        char room[100 << 10];  // more than a page, less than a stack
        for (char& c : room) c = 'x';
        diary.text += room[sizeof room - 1];
        diary.text += static_cast<char>('0' + diary.fibers.current());
      },
      &d);
  EXPECT_EQ(n, 1u);
  EXPECT_EQ(d.text, "x1");
  EXPECT_FALSE(d.fibers.alive(n));
  EXPECT_EQ(d.fibers.current(), 0u);
}

TEST(Fibers, GoesOnWhereItWaited) {
  Diary d;
  const auto body = [](void* p) {
    auto& diary = *static_cast<Diary*>(p);
    for (const char c : {'a', 'b', 'c'}) {
      diary.text += c;
      diary.fibers.wait();
    }
    diary.text += '.';
  };
  const unsigned n = d.fibers.start(body, &d);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(d.fibers.alive(n));
    d.text += '-';
    d.fibers.resume(n);
  }
  EXPECT_EQ(d.text, "a-b-c-.");
  EXPECT_FALSE(d.fibers.any_alive());
}

TEST(Fibers, OneStartsAnotherAndEachReturnsToItsOwn) {
  Diary d;
  d.fibers.start(
      [](void* p) {
        auto& outer = *static_cast<Diary*>(p);
        outer.text += '(';
        outer.inner = outer.fibers.start(
            [](void* q) {
              auto& inner = *static_cast<Diary*>(q);
              inner.text += static_cast<char>('0' + inner.fibers.current());
              inner.fibers.wait();
              inner.text += 'i';
            },
            p);
        outer.text += ')';
      },
      &d);
  EXPECT_EQ(d.text, "(2)");
  d.fibers.resume(d.inner);
  EXPECT_EQ(d.text, "(2)i");
}

TEST(Fibers, AreAtMostSoMany) {
  Diary d;
  const auto body = [](void* p) { static_cast<Diary*>(p)->fibers.wait(); };
  for (unsigned n = 1; n <= Fibers::kMost; ++n) EXPECT_EQ(d.fibers.start(body, &d), n);
  EXPECT_EQ(d.fibers.start(body, &d), 0u);
  d.fibers.resume(3);
  EXPECT_EQ(d.fibers.start(body, &d), 3u);
  d.fibers.forget_all();
  EXPECT_FALSE(d.fibers.any_alive());
}

// From the innermost of several, over all that wait.
TEST(Fibers, DesertingGoesToContextZero) {
  Diary d;
  for (int round = 0; round < 3; ++round) {
    d.text.clear();
    d.fibers.start(
        [](void* p) {
          auto& outer = *static_cast<Diary*>(p);
          outer.fibers.start([](void* q) { static_cast<Diary*>(q)->fibers.desert(); }, p);
          outer.text += "not reached";
        },
        &d);
    EXPECT_TRUE(d.fibers.deserted());
    EXPECT_EQ(d.fibers.current(), 0u);
    EXPECT_FALSE(d.fibers.any_alive());
    EXPECT_EQ(d.text, "");
    d.fibers.forget_all();
    EXPECT_FALSE(d.fibers.deserted());
  }
}

// Sanitizers and the C library must stand a great number of switches.
TEST(Fibers, SwitchManyTimes) {
  struct Counter {
    Fibers fibers;
    unsigned n = 0;
  } c;
  const unsigned f = c.fibers.start(
      [](void* p) {
        auto& counter = *static_cast<Counter*>(p);
        for (; counter.n < 100'000; ++counter.n) counter.fibers.wait();
      },
      &c);
  while (c.fibers.alive(f)) c.fibers.resume(f);
  EXPECT_EQ(c.n, 100'000u);
}

}  // namespace
}  // namespace twinwalk
