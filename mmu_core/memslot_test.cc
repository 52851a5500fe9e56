#include "mmu_core/memslot.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/test_platform.h"

namespace mmu {
namespace {

using Kind = MemslotRequest::Kind;
using testing::LimitedPages;
using testing::RecordingPlatform;

constexpr u8 kMaxphyaddr = 40;
constexpr Hva kHost{0x7f00'0000'0000};  // aligned to 1G

MemslotRequest add_request(u32 id, u64 gfn, u64 pages, Hva hva = kHost) {
  MemslotRequest request;
  request.id = id;
  request.gfn = Gfn{gfn};
  request.pages = pages;
  request.hva = hva;
  return request;
}
MemslotRequest change(Kind kind, u32 id, u64 gfn = 0) {
  MemslotRequest request;
  request.kind = kind;
  request.id = id;
  request.gfn = Gfn{gfn};
  return request;
}
MemslotRequest flags(u32 id, bool read_only, bool log_dirty) {
  MemslotRequest request = change(Kind::kFlags, id);
  request.read_only = read_only;
  request.log_dirty = log_dirty;
  return request;
}

class MemslotTest : public ::testing::Test {
 protected:
  void TearDown() override { slots_.clear(); }

  Status apply(const MemslotRequest& request) {
    const Status valid = slots_.validate(request, kMaxphyaddr);
    if (valid != Status::kOk) return valid;
    const Status done = slots_.publish(request);
    if (done == Status::kOk) slots_.finish_update();
    return done;
  }
  // Delete and move in full, arrays given back.
  Status retire(const MemslotRequest& request) {
    const Memslot old = *slots_.by_id(request.id);
    const Status done = apply(request);
    SlotArrays arrays = slots_.take_arrays(request.id);
    slots_.free_arrays(arrays, old.pages, old.base);
    return done;
  }
  u32 disallow(u64 gfn, unsigned level) {
    return slots_.find(Gfn{gfn})->large(Gfn{gfn}, level).disallow;
  }

  RecordingPlatform platform_;
  Memslots slots_{platform_};
};

TEST_F(MemslotTest, FindsTheSlotOfEachFrame) {
  ASSERT_EQ(apply(add_request(3, 0x100, 0x10)), Status::kOk);
  ASSERT_EQ(apply(add_request(1, 0x110, 0x10)), Status::kOk);
  for (int again = 0; again < 2; ++again) {  // with the hint on either
    EXPECT_EQ(slots_.find(Gfn{0x0ff}), nullptr);
    EXPECT_EQ(slots_.find(Gfn{0x100})->id, 3u);
    EXPECT_EQ(slots_.find(Gfn{0x10f})->id, 3u);
    EXPECT_EQ(slots_.find(Gfn{0x110})->id, 1u);
    EXPECT_EQ(slots_.find(Gfn{0x11f})->id, 1u);
    EXPECT_EQ(slots_.find(Gfn{0x120}), nullptr);
  }
}

TEST_F(MemslotTest, HvaGoesWithTheFrame) {
  ASSERT_EQ(apply(add_request(0, 0x100, 0x10)), Status::kOk);
  EXPECT_EQ(slots_.find(Gfn{0x105})->hva_of(Gfn{0x105}), kHost + 0x5000);
}

TEST_F(MemslotTest, RefusesWhatCannotBe) {
  ASSERT_EQ(apply(add_request(0, 0x100, 0x10)), Status::kOk);
  const u64 end = u64{1} << (kMaxphyaddr - 12);
  const MemslotRequest kRefused[] = {
      add_request(kMaxMemslots, 0, 1),              // no such id
      add_request(0, 0x1000, 1),                    // id in use
      add_request(1, 0x1000, 0),                    // empty
      add_request(1, 0x1000, 1, Hva{0x800}),        // hva not aligned
      add_request(1, 0xff, 2),                      // overlaps the head
      add_request(1, 0x10f, 1),                     // the tail
      add_request(1, 0x80, 0x1000),                 // all of it
      add_request(1, 0x104, 2),                     // the middle
      add_request(1, end, 1),                       // beyond the physical width
      add_request(1, end - 1, 2),                   // in part
      add_request(1, 1, ~u64{0}),                   // wraps
      add_request(1, 0x1000, 2, Hva{~u64{0xfff}}),  // hva wraps
      change(Kind::kDelete, 1),
      change(Kind::kMove, 1, 0x1000),
      change(Kind::kMove, 0, end - 1),
      flags(1, true, true),
  };
  for (const MemslotRequest& request : kRefused) {
    EXPECT_EQ(slots_.validate(request, kMaxphyaddr), Status::kInvalid)
        << "case " << &request - kRefused;
  }
}

TEST_F(MemslotTest, AcceptsNeighboursAndTheLastFrame) {
  ASSERT_EQ(apply(add_request(0, 0x100, 0x10)), Status::kOk);
  EXPECT_EQ(apply(add_request(1, 0xff, 1)), Status::kOk);
  EXPECT_EQ(apply(add_request(2, 0x110, 1)), Status::kOk);
  EXPECT_EQ(apply(add_request(3, (u64{1} << (kMaxphyaddr - 12)) - 1, 1)), Status::kOk);
}

TEST_F(MemslotTest, MayMoveOntoItsOwnFrames) {
  ASSERT_EQ(apply(add_request(0, 0x100, 0x10)), Status::kOk);
  ASSERT_EQ(apply(add_request(1, 0x200, 0x10)), Status::kOk);
  EXPECT_EQ(slots_.validate(change(Kind::kMove, 0, 0x108), kMaxphyaddr), Status::kOk);
  EXPECT_EQ(slots_.validate(change(Kind::kMove, 0, 0x1f8), kMaxphyaddr), Status::kInvalid);
}

TEST_F(MemslotTest, UnalignedEndsMayNotBeLarge) {
  // 2M ranges 0 (partial head), 1, 2 (partial tail).
  ASSERT_EQ(apply(add_request(0, 0x1ff, 0x1 + 0x200 + 0x10, kHost + 0x1ff000)), Status::kOk);
  EXPECT_EQ(disallow(0x1ff, 2), 1u);
  EXPECT_EQ(disallow(0x200, 2), 0u);
  EXPECT_EQ(disallow(0x3ff, 2), 0u);
  EXPECT_EQ(disallow(0x400, 2), 1u);
  EXPECT_EQ(disallow(0x200, 3), 1u);
}

TEST_F(MemslotTest, WholeGigabyteMayBeLarge) {
  ASSERT_EQ(apply(add_request(0, 0x40000, 0x40000)), Status::kOk);
  EXPECT_EQ(disallow(0x40000, 3), 0u);
  EXPECT_EQ(disallow(0x40000, 2), 0u);
  EXPECT_EQ(disallow(0x7ffff, 2), 0u);
}

TEST_F(MemslotTest, HostFramesThatDoNotLineUpForbidThatSizeEverywhere) {
  // Guest and host differ by 2M: 2M pages line up, 1G pages do not.
  ASSERT_EQ(apply(add_request(0, 0x40000, 0x40000, kHost + 0x200000)), Status::kOk);
  EXPECT_EQ(disallow(0x40000, 2), 0u);
  EXPECT_EQ(disallow(0x40000, 3), 1u);
  // By 4K: neither does.
  ASSERT_EQ(apply(add_request(1, 0x80000, 0x400, kHost + 0x1000)), Status::kOk);
  EXPECT_EQ(disallow(0x80000, 2), 1u);
  EXPECT_EQ(disallow(0x80200, 2), 1u);
}

TEST_F(MemslotTest, GenerationIsInProgressUntilTheUpdateIsFinished) {
  ASSERT_EQ(apply(add_request(0, 0x100, 0x10)), Status::kOk);
  const u64 before = slots_.generation();
  ASSERT_EQ(slots_.publish(flags(0, true, false)), Status::kOk);
  EXPECT_EQ(slots_.generation(), before | kGenerationInProgress);
  slots_.finish_update();
  EXPECT_EQ(slots_.generation(), before + kAddressSpaces);
}

TEST_F(MemslotTest, DeleteInTwoSteps) {
  ASSERT_EQ(apply(add_request(0, 0x100, 0x10)), Status::kOk);
  ASSERT_EQ(slots_.publish_invalid(0), Status::kOk);
  ASSERT_NE(slots_.find(Gfn{0x100}), nullptr) << "an invalid slot is still found";
  EXPECT_TRUE(slots_.find(Gfn{0x100})->invalid);
  EXPECT_TRUE(slots_.generation() & kGenerationInProgress);
  ASSERT_EQ(retire(change(Kind::kDelete, 0)), Status::kOk);
  EXPECT_EQ(slots_.find(Gfn{0x100}), nullptr);
  EXPECT_EQ(slots_.by_id(0), nullptr);
  EXPECT_EQ(platform_.objects_in_use(), 0u);
}

TEST_F(MemslotTest, MoveGetsArraysForItsNewPlaceAndKeepsTheLog) {
  MemslotRequest request = add_request(0, 0x100, 0x10);
  request.log_dirty = true;
  ASSERT_EQ(apply(request), Status::kOk);
  slots_.find(Gfn{0x100})->rmap(Gfn{0x100}, 2)->word = 1;
  slots_.find(Gfn{0x100})->arrays.dirty[0] = 5;
  const std::size_t in_use = platform_.objects_in_use();
  ASSERT_EQ(slots_.publish_invalid(0), Status::kOk);
  ASSERT_EQ(retire(change(Kind::kMove, 0, 0x1f8)), Status::kOk);
  EXPECT_EQ(slots_.find(Gfn{0x100}), nullptr);
  const Memslot* const moved = slots_.find(Gfn{0x1f8});
  ASSERT_NE(moved, nullptr);
  EXPECT_FALSE(moved->invalid);
  EXPECT_EQ(moved->hva, kHost);
  EXPECT_EQ(moved->rmap(Gfn{0x1f8}, 1), nullptr);
  EXPECT_EQ(moved->rmap(Gfn{0x1f8}, 2)->word, 0u);
  EXPECT_EQ(moved->index(Gfn{0x200}, 2), 1u) << "it crosses a 2M border now";
  EXPECT_EQ(moved->arrays.dirty[0], 5u);
  EXPECT_EQ(platform_.objects_in_use(), in_use);
}

TEST_F(MemslotTest, FlagsKeepTheArrays) {
  ASSERT_EQ(apply(add_request(0, 0x100, 0x10)), Status::kOk);
  RmapHead* const rmap = slots_.by_id(0)->arrays.rmap[1];
  ASSERT_EQ(apply(flags(0, true, true)), Status::kOk);
  EXPECT_EQ(slots_.by_id(0)->arrays.rmap[1], rmap);
  EXPECT_TRUE(slots_.by_id(0)->read_only);
  EXPECT_EQ(slots_.take_arrays(0).rmap[1], nullptr) << "the slot still has them";
}

TEST_F(MemslotTest, LogBeginsEmptyEachTimeItIsSwitchedOn) {
  ASSERT_EQ(apply(add_request(0, 0x100, 100)), Status::kOk);
  EXPECT_EQ(slots_.by_id(0)->arrays.dirty, nullptr);
  ASSERT_EQ(apply(flags(0, false, true)), Status::kOk);
  u64* const dirty = slots_.by_id(0)->arrays.dirty;
  ASSERT_NE(dirty, nullptr);
  dirty[1] = 1;
  ASSERT_EQ(apply(flags(0, true, true)), Status::kOk);
  EXPECT_EQ(dirty[1], 1u) << "it stayed on";
  ASSERT_EQ(apply(flags(0, false, false)), Status::kOk);
  ASSERT_EQ(apply(flags(0, false, true)), Status::kOk);
  EXPECT_EQ(slots_.by_id(0)->arrays.dirty[1], 0u);
}

TEST_F(MemslotTest, EveryFailedAllocationLeavesEverythingAsItWas) {
  MemslotRequest request = add_request(1, 0x200, 0x10);
  request.log_dirty = true;
  ASSERT_EQ(apply(add_request(0, 0x100, 0x10)), Status::kOk);
  const u64 generation = slots_.generation();
  const std::size_t in_use = platform_.objects_in_use();
  u64 enough = 0;
  for (; enough < 100; ++enough) {
    platform_.object_source = LimitedPages(enough);
    const Status status = apply(request);
    if (status == Status::kOk) break;
    ASSERT_EQ(status, Status::kNoMemory);
    EXPECT_EQ(slots_.find(Gfn{0x200}), nullptr);
    EXPECT_EQ(slots_.generation(), generation);
    EXPECT_EQ(platform_.objects_in_use(), in_use);
  }
  EXPECT_EQ(enough, 6u) << "rmap and limits of two levels, the chunks of the third, log";
  platform_.object_source = LimitedPages(0);
  EXPECT_EQ(slots_.publish(change(Kind::kMove, 0, 0x300)), Status::kNoMemory);
  EXPECT_EQ(slots_.publish(flags(0, true, true)), Status::kNoMemory);
  EXPECT_EQ(slots_.find(Gfn{0x100})->id, 0u);
  EXPECT_FALSE(slots_.by_id(0)->read_only);
}

}  // namespace
}  // namespace mmu
