#include "harness/core/interleaver.h"

#include <gtest/gtest.h>

#include <string>

namespace twinwalk {
namespace {

using mmu::LockId;
using mmu::YieldPoint;

// Steps are letters; `script` says what each does when it runs inside.
class Bench : private Interleaver::Runner {
 public:
  Bench() : interleaver(*this) { interleaver.reset(); }

  // The outer step, then inner ones with their points.
  void program(std::initializer_list<Point> points) {
    steps.steps.clear();
    for (const Point p : points) {
      Op op;
      op.point = p;
      steps.steps.emplace_back(0, op);
    }
    interleaver.begin(steps, 0);
  }
  // One block, which begins while the outer step holds the mmu lock.
  void block_while_mmu_is_locked() {
    program({Point::kNone, Point::kBeforeInstall});
    interleaver.lock(LockId::kMmu);
    interleaver.reached(YieldPoint::kBeforeInstall);
  }
  void say(char c) { text += c; }

  Interleaver interleaver;
  Program steps;
  std::string text;
  std::string why;
  void (*script)(Bench&, std::size_t step) = nullptr;

 private:
  void run_inside(std::size_t step) override { script(*this, step); }
  void broken(const char* what) override {
    why = what;
    throw why;
  }
  void left_for_good() override { throw std::string("left"); }
};

TEST(Interleaver, ABlockRunsOnceAtItsPoint) {
  Bench b;
  b.script = [](Bench& at, std::size_t step) { at.say(static_cast<char>('0' + step)); };
  b.program({Point::kNone, Point::kAfterWalk, Point::kAfterFrame, Point::kAfterWalk});
  b.say('a');
  b.interleaver.reached(YieldPoint::kAfterWalk);
  b.say('b');
  b.interleaver.reached(YieldPoint::kAfterWalk);
  b.interleaver.reached(YieldPoint::kBeforeFlush);
  b.interleaver.reached(YieldPoint::kAfterFrame);
  b.say('c');
  b.interleaver.finish();
  EXPECT_EQ(b.text, "a13b2c");
}

TEST(Interleaver, WhatIsNotComeToRunsAtTheEnd) {
  Bench b;
  b.script = [](Bench& at, std::size_t step) { at.say(static_cast<char>('0' + step)); };
  b.program({Point::kNone, Point::kNotifierBegun, Point::kAfterWalk});
  b.say('a');
  b.interleaver.finish();
  EXPECT_EQ(b.text, "a12");
}

TEST(Interleaver, ALockIsWaitedForAndGotWhenItIsGivenBack) {
  Bench b;
  b.script = [](Bench& at, std::size_t) {
    at.say('w');
    at.interleaver.lock(LockId::kMmu);
    at.say('l');
    at.interleaver.unlock(LockId::kMmu);
    at.say('u');
  };
  b.block_while_mmu_is_locked();
  b.say('-');
  b.interleaver.unlock(LockId::kMmu);
  b.say('.');
  b.interleaver.finish();
  EXPECT_EQ(b.text, "w-lu.");
}

TEST(Interleaver, SharersDoNotWaitForEachOther) {
  Bench b;
  b.script = [](Bench& at, std::size_t step) {
    if (step == 1) {
      at.interleaver.lock_shared(LockId::kMmu);
      at.say('s');
      at.interleaver.unlock_shared(LockId::kMmu);
    } else {
      at.interleaver.lock(LockId::kMmu);
      at.say('x');
      at.interleaver.unlock(LockId::kMmu);
    }
  };
  b.program({Point::kNone, Point::kAfterWalk, Point::kAfterFrame});
  b.interleaver.lock_shared(LockId::kMmu);
  b.interleaver.reached(YieldPoint::kAfterWalk);
  b.interleaver.reached(YieldPoint::kAfterFrame);
  b.say('-');
  b.interleaver.unlock_shared(LockId::kMmu);
  b.interleaver.finish();
  EXPECT_EQ(b.text, "s-x");
}

// The block holds one lock and waits for the other: who wants the first lets it go on.
TEST(Interleaver, WhoHoldsALockGoesOnForWhomItKeepsWaiting) {
  Bench b;
  b.script = [](Bench& at, std::size_t) {
    at.interleaver.lock(LockId::kSlots);
    at.say('s');
    at.interleaver.lock(LockId::kMmu);
    at.say('m');
    at.interleaver.unlock(LockId::kMmu);
    at.interleaver.unlock(LockId::kSlots);
  };
  b.block_while_mmu_is_locked();
  b.interleaver.unlock(LockId::kMmu);
  b.interleaver.lock(LockId::kSlots);
  b.say('o');
  b.interleaver.unlock(LockId::kSlots);
  b.interleaver.finish();
  EXPECT_EQ(b.text, "smo");
}

TEST(Interleaver, ContextsThatWaitForEachOtherAreFound) {
  Bench b;
  b.script = [](Bench& at, std::size_t) {
    at.interleaver.lock(LockId::kSlots);
    at.interleaver.lock(LockId::kMmu);
  };
  b.block_while_mmu_is_locked();
  EXPECT_THROW(b.interleaver.lock(LockId::kSlots), std::string);
  EXPECT_EQ(b.why, "the contexts wait for each other");
}

TEST(Interleaver, ALockTakenTwiceAndOneNotHeldAreFound) {
  Bench b;
  b.program({Point::kNone});
  b.interleaver.lock(LockId::kMmu);
  EXPECT_THROW(b.interleaver.lock(LockId::kMmu), std::string);
  EXPECT_THROW(b.interleaver.unlock(LockId::kSlots), std::string);
  EXPECT_THROW(b.interleaver.unlock_shared(LockId::kSlots), std::string);
}

TEST(Interleaver, PausesUntilNobodyElseIsThere) {
  Bench b;
  b.script = [](Bench& at, std::size_t) {
    while (at.interleaver.any_inside(1)) {
      at.say('p');
      if (!at.interleaver.pause()) return;
    }
    at.say('g');
  };
  b.program({Point::kNone, Point::kAfterWalk});
  b.interleaver.enter_vcpus(1);
  b.interleaver.reached(YieldPoint::kAfterWalk);
  b.say('-');
  EXPECT_TRUE(b.interleaver.pause());  // the block looks again, in vain
  b.interleaver.leave_vcpus(1);
  b.interleaver.finish();
  EXPECT_EQ(b.text, "p-pg");
  EXPECT_FALSE(b.interleaver.pause());
}

TEST(Interleaver, LeavingForGoodEndsInTheOuterStep) {
  Bench b;
  b.script = [](Bench& at, std::size_t) { at.interleaver.leave_for_good(); };
  b.program({Point::kNone, Point::kAfterWalk});
  EXPECT_THROW(b.interleaver.reached(YieldPoint::kAfterWalk), std::string);
  b.interleaver.reset();
  EXPECT_FALSE(b.interleaver.pause());
}

}  // namespace
}  // namespace twinwalk
