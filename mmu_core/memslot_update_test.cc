// Memslot changes while translations are live: Vm::set_memslot in the order of its steps.

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;
using testing::mmio;
using testing::Outcome;
using testing::page_fault;
using Kind = MemslotRequest::Kind;

constexpr Gva kVa{0x1234'5660'0000};
constexpr Gva kThrough{0x7000'0000'0000};
constexpr Gpa kPage{0x40'0000};
constexpr Gpa kSlotGpa{0x1'0000'0000}, kElsewhere{0x1'4000'0000};
constexpr Hva kSlotHva = kMemory + (u64{1} << 34);
constexpr u64 kSlotPages = 1024;
constexpr u32 kId = 3;

// A second slot, mapped and written through kVa.
class MemslotUpdate : public ::testing::Test {
 protected:
  MemslotUpdate() {
    add_slot(guest_);
    guest_.map(kVa, kSlotGpa);
    guest_.write(kVa, 0x11);
  }
  static void add_slot(Guest& g) { g.add_slot(kId, Gfn::of(kSlotGpa), kSlotPages, kSlotHva); }
  Outcome reaches_slot(u64 offset = 0) { return guest_.reaches(kSlotHva + offset); }
  // kThrough is mapped to kPage by a page table in the slot.
  void map_through_slot(u64 leaf) {
    constexpr u64 kTable = 0x5000;
    guest_.platform.store(kSlotHva + kTable, leaf);
    guest_.map(kThrough, kPage);
    guest_.host_store(guest_.entry(kThrough, 2), (kSlotGpa + kTable).raw | kRights);
  }
  Guest guest_;
};

TEST_F(MemslotUpdate, IsReachedAtFirst) { EXPECT_EQ(guest_.read(kVa), reaches_slot()); }

TEST_F(MemslotUpdate, DeleteTakesTheTranslations) {
  ASSERT_EQ(guest_.slot_request(Kind::kDelete, kId), Status::kOk);
  EXPECT_FALSE(guest_.translation(kVa).present);
  EXPECT_EQ(guest_.read(kVa), mmio(kSlotGpa));
}

TEST_F(MemslotUpdate, DeleteFlushesBeforeItReturns) {
  guest_.platform.flushes.clear();
  ASSERT_EQ(guest_.slot_request(Kind::kDelete, kId), Status::kOk);
  EXPECT_FALSE(guest_.platform.flushes.empty());
}

TEST_F(MemslotUpdate, SlotComesBackWithItsContent) {
  ASSERT_EQ(guest_.slot_request(Kind::kDelete, kId), Status::kOk);
  add_slot(guest_);
  EXPECT_EQ(guest_.read(kVa).value, 0x11u);
}

TEST_F(MemslotUpdate, MoveLeavesTheOldPlaceEmpty) {
  ASSERT_EQ(guest_.slot_request(Kind::kMove, kId, Gfn::of(kElsewhere)), Status::kOk);
  EXPECT_EQ(guest_.read(kVa), mmio(kSlotGpa));
}

TEST_F(MemslotUpdate, MoveToWhereItIsChangesNothing) {
  guest_.platform.flushes.clear();
  ASSERT_EQ(guest_.slot_request(Kind::kMove, kId, Gfn::of(kSlotGpa)), Status::kOk);
  EXPECT_TRUE(guest_.translation(kVa).present);
  EXPECT_TRUE(guest_.platform.flushes.empty());
}

TEST_F(MemslotUpdate, MoveBringsTheContentAlong) {
  ASSERT_EQ(guest_.slot_request(Kind::kMove, kId, Gfn::of(kElsewhere)), Status::kOk);
  guest_.map(kVa + 0x20000, kElsewhere);
  EXPECT_EQ(guest_.read(kVa + 0x20000), reaches_slot());
}

TEST_F(MemslotUpdate, ReadOnlyTakesTheWriteRight) {
  ASSERT_EQ(guest_.slot_request(Kind::kFlags, kId, Gfn{}, true), Status::kOk);
  EXPECT_EQ(guest_.read(kVa), reaches_slot());
  EXPECT_EQ(guest_.write(kVa, 0x22), mmio(kSlotGpa));
}

TEST_F(MemslotUpdate, WritableAgain) {
  ASSERT_EQ(guest_.slot_request(Kind::kFlags, kId, Gfn{}, true), Status::kOk);
  guest_.read(kVa);
  ASSERT_EQ(guest_.slot_request(Kind::kFlags, kId, Gfn{}, false), Status::kOk);
  EXPECT_EQ(guest_.write(kVa, 0x22), reaches_slot());
}

TEST_F(MemslotUpdate, LoggingKeepsTheTranslations) {
  ASSERT_EQ(guest_.slot_request(Kind::kFlags, kId, Gfn{}, false, true), Status::kOk);
  EXPECT_EQ(guest_.read(kVa).faults, 0u);
}

TEST_F(MemslotUpdate, MoveKeepsTheLog) {
  ASSERT_EQ(guest_.slot_request(Kind::kFlags, kId, Gfn{}, false, true), Status::kOk);
  guest_.write(kVa, 0x33);
  ASSERT_EQ(guest_.slot_request(Kind::kMove, kId, Gfn::of(kElsewhere)), Status::kOk);
  u64 bitmap[kSlotPages / 64] = {};
  ASSERT_TRUE(guest_.vm().get_dirty_log(0, kId, bitmap, kSlotPages / 64));
  EXPECT_EQ(bitmap[0], 1u);
}

TEST_F(MemslotUpdate, GuestTableInADeletedSlot) {
  map_through_slot(kPage.raw | kUsed);
  ASSERT_EQ(guest_.read(kThrough), guest_.reaches(kPage));
  ASSERT_EQ(guest_.slot_request(Kind::kDelete, kId), Status::kOk);
  EXPECT_EQ(guest_.read(kThrough), page_fault(0));
  add_slot(guest_);
  EXPECT_EQ(guest_.read(kThrough), guest_.reaches(kPage));
}

TEST_F(MemslotUpdate, ReadOnlySlotCannotTakeAnAccessedBit) {
  map_through_slot(kPage.raw | kRights);
  ASSERT_EQ(guest_.slot_request(Kind::kFlags, kId, Gfn{}, true), Status::kOk);
  EXPECT_EQ(guest_.read(kThrough), page_fault(0));
}

TEST_F(MemslotUpdate, RefusedRequestChangesNothing) {
  EXPECT_EQ(guest_.slot_request(Kind::kMove, kId, Gfn{0}), Status::kInvalid) << "overlaps slot 0";
  EXPECT_EQ(guest_.slot_request(Kind::kDelete, 5), Status::kInvalid) << "no such slot";
  EXPECT_EQ(guest_.slot_request(Kind::kMove, kId, Gfn{(u64{1} << 28) - 8}), Status::kInvalid)
      << "beyond MAXPHYADDR";
  EXPECT_EQ(guest_.read(kVa).faults, 0u);
}

TEST_F(MemslotUpdate, EveryVcpuLosesTheTranslation) {
  VmConfig config;
  config.vcpus = 4;
  Guest g(config);
  add_slot(g);
  g.map(kVa, kSlotGpa);
  for (u32 i = 0; i < 4; ++i) g.read(kVa, i);
  ASSERT_EQ(g.slot_request(Kind::kDelete, kId), Status::kOk);
  for (u32 i = 0; i < 4; ++i) EXPECT_EQ(g.read(kVa, i), mmio(kSlotGpa)) << "vcpu " << i;
}

TEST_F(MemslotUpdate, DeleteUnderAFault) {
  for (const YieldPoint at : {YieldPoint::kAfterWalk, YieldPoint::kAfterFrame}) {
    Guest g;
    add_slot(g);
    g.map(kVa, kSlotGpa);
    bool once = true;
    g.platform.on_yield = [&](YieldPoint point, u32) {
      if (point != at || !once) return;
      once = false;
      EXPECT_EQ(g.slot_request(Kind::kDelete, kId), Status::kOk);
    };
    EXPECT_EQ(g.read(kVa), mmio(kSlotGpa)) << "yield point " << static_cast<int>(at);
  }
}

TEST_F(MemslotUpdate, SlotAppearsUnderAnMmioFault) {
  Guest g;
  g.map(kVa, kSlotGpa);
  bool once = true;
  g.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    add_slot(g);
  };
  g.read(kVa);
  g.platform.store(kSlotHva, 0x44);
  EXPECT_EQ(g.read(kVa).value, 0x44u);
}

// Who follows a reverse map, or collects the dirty log, holds the mmu lock: nothing of a slot goes
// while that is held by another.
TEST_F(MemslotUpdate, ArraysAreFreedUnderTheMmuLock) {
  ASSERT_EQ(guest_.slot_request(Kind::kFlags, kId, Gfn{}, false, true), Status::kOk);
  u64 freed = 0, bitmaps = 0;
  guest_.platform.before_free_object = [&](u64 size) {
    EXPECT_TRUE(guest_.platform.holds_lock(LockId::kMmu)) << size << " bytes";
    ++freed;
    bitmaps += size == kSlotPages / 8;
  };
  ASSERT_EQ(guest_.slot_request(Kind::kMove, kId, Gfn::of(kElsewhere)), Status::kOk);
  EXPECT_GT(freed, 0u);
  EXPECT_EQ(bitmaps, 0u) << "a move keeps the log";
  ASSERT_EQ(guest_.slot_request(Kind::kDelete, kId), Status::kOk);
  EXPECT_EQ(bitmaps, 1u);
  guest_.platform.before_free_object = nullptr;
}

// The order of locks is each context's own: one that holds the mmu lock and yields is in nobody's
// way who only takes the slots lock.
TEST_F(MemslotUpdate, SlotsLockWhileAnotherContextHoldsTheMmuLock) {
  u64 requests = 0;
  guest_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kBeforeInstall || requests != 0) return;
    ++requests;
    ASSERT_TRUE(guest_.platform.holds_lock(LockId::kMmu));
    guest_.platform.running = 1;
    MemslotRequest unknown;
    unknown.kind = Kind::kDelete;
    unknown.id = kId + 1;
    EXPECT_EQ(guest_.vm().set_memslot(unknown), Status::kInvalid);
    guest_.platform.running = 0;
    EXPECT_TRUE(guest_.platform.holds_lock(LockId::kMmu));
  };
  guest_.map(kVa + 0x40000, kSlotGpa + 0x1000);
  EXPECT_EQ(guest_.read(kVa + 0x40000), reaches_slot(0x1000));
  EXPECT_EQ(requests, 1u);
}

// And the other way round: an update that has swapped the slots yields with its lock held, and a
// vCPU in another context takes the mmu lock.
TEST_F(MemslotUpdate, MmuLockWhileAnotherContextHoldsTheSlotsLock) {
  u64 faults = 0;
  guest_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kSlotSwapped) return;
    ++faults;
    guest_.platform.running = 1;
    EXPECT_FALSE(guest_.platform.holds_lock(LockId::kSlots));
    guest_.vm().zap_all();
    guest_.platform.running = 0;
    EXPECT_TRUE(guest_.platform.holds_lock(LockId::kSlots));
  };
  ASSERT_EQ(guest_.slot_request(Kind::kDelete, kId), Status::kOk);
  EXPECT_EQ(faults, 1u);
}

// Nor is it a #PF of the guest's that a table is in one: before and after, the table is there.
TEST_F(MemslotUpdate, TablesInASlotThatIsOnItsWayAreWalkedAgain) {
  u64 faults = 0;
  guest_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kSlotSwapped) return;
    ++faults;
    EXPECT_EQ(guest_.cpu().handle_fault(kThrough, 0, false).kind, FaultResult::Kind::kRetry);
    EXPECT_EQ(guest_.cpu().emulate(kThrough, Access::kRead, 8, 0, false).kind,
              EmulateResult::Kind::kRetry);
  };
  map_through_slot(kPage.raw | kRights);
  ASSERT_EQ(guest_.slot_request(Kind::kFlags, kId, Gfn{}, true), Status::kOk);
  EXPECT_EQ(faults, 1u);
}

TEST_F(MemslotUpdate, NothingIsMappedFromASlotThatIsBeingDeleted) {
  u64 faults = 0;
  guest_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kSlotSwapped) return;
    ++faults;
    const FaultResult r = guest_.cpu().handle_fault(kVa + 0x40000, 0, false);
    EXPECT_EQ(r.kind, FaultResult::Kind::kRetry) << "neither memory nor MMIO yet";
  };
  guest_.map(kVa + 0x40000, kSlotGpa + 0x1000);
  ASSERT_EQ(guest_.slot_request(Kind::kDelete, kId), Status::kOk);
  EXPECT_EQ(faults, 1u);
  EXPECT_FALSE(guest_.translation(kVa + 0x40000).present);
}

}  // namespace
}  // namespace mmu
