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
  ~MemslotTest() override { slots_.clear(); }

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

}  // namespace
}  // namespace mmu
