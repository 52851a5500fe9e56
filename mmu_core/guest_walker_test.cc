#include "mmu_core/guest_walker.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/test_platform.h"

namespace mmu {
namespace {

using testing::RecordingPlatform;

constexpr Hva kMemory{0x7f00'0000'0000};
constexpr u64 kSlotPages = 4096;
// One table a level, [level - 1], and in each the entry that the address uses: indices 9, 8, 7, 6
// from the root.
constexpr u64 kTable[] = {0x4000, 0x3000, 0x2000, 0x1000};
constexpr u64 kIndex[] = {6, 7, 8, 9};
constexpr Gva kAddress{9ull << 39 | 8ull << 30 | 7ull << 21 | 6ull << 12 | 0x123};
constexpr u64 kPage = 0xabc000;
constexpr u64 kAll = pte::kP | pte::kW | pte::kU;

class GuestWalker : public ::testing::Test {
 protected:
  GuestWalker() {
    regs_.cr0 = cr0::kPe | cr0::kPg | cr0::kWp;
    regs_.cr3 = kTable[3];
    regs_.cr4 = cr4::kPae;
    regs_.efer = efer::kLme | efer::kLma | efer::kNxe;
    add_slot(0, Gfn{0}, kMemory, false);
    for (unsigned level = 4; level > 1; --level) set_entry(level, kTable[level - 2] | kAll);
    set_entry(1, kPage | kAll);
  }
  ~GuestWalker() override { slots_.clear(); }

  void add_slot(u32 id, Gfn gfn, Hva hva, bool read_only, bool log_dirty = false) {
    MemslotRequest request;
    request.id = id;
    request.gfn = gfn;
    request.pages = id == 0 ? kSlotPages : 1;
    request.hva = hva;
    request.read_only = read_only;
    request.log_dirty = log_dirty;
    ASSERT_EQ(slots_.validate(request, 40), Status::kOk);
    ASSERT_EQ(slots_.publish(request), Status::kOk);
    slots_.finish_update();
  }
  static u64 entry_gpa(unsigned level) { return kTable[level - 1] + kIndex[level - 1] * 8; }
  void set_entry(unsigned level, u64 value) { platform_.store(kMemory + entry_gpa(level), value); }
  u64 entry(unsigned level) { return platform_.load(kMemory + entry_gpa(level)); }

  GuestWalk walk(AccessRequest request, AdUpdate ad = AdUpdate::kYes) {
    return walk_guest(memory_, context(), regs_, kAddress, request, ad);
  }
  WalkContext context() const { return make_walk_context(caps_, regs_); }
  static AccessRequest user_read() { return {false, false, true, false}; }
  static AccessRequest user_write() { return {true, false, true, false}; }
  static AccessRequest user_fetch() { return {false, true, true, false}; }

  RecordingPlatform platform_;
  Memslots slots_{platform_};
  GuestMemory memory_{platform_, slots_};
  Capabilities caps_;
  CpuRegisters regs_;
};

TEST_F(GuestWalker, TellsThePath) {
  const GuestWalk w = walk(user_read());
  ASSERT_TRUE(w.ok);
  EXPECT_EQ(w.top, 4);
  EXPECT_EQ(w.level, 1);
  EXPECT_EQ(w.gfn, Gfn{kPage >> 12});
  EXPECT_EQ(w.access, acc::kAll);
  for (unsigned level = 1; level <= 4; ++level) {
    EXPECT_EQ(w.table[level - 1].raw, kTable[level - 1] >> 12) << "level " << level;
    EXPECT_EQ(w.entry_gpa[level - 1].raw, entry_gpa(level)) << "level " << level;
    EXPECT_EQ(w.entry[level - 1], entry(level)) << "level " << level;
  }
}

TEST_F(GuestWalker, NotPresentAtEachLevel) {
  for (unsigned level = 1; level <= 4; ++level) {
    const u64 old = entry(level);
    set_entry(level, old & ~pte::kP);
    const GuestWalk w = walk(user_write());
    EXPECT_FALSE(w.ok);
    EXPECT_EQ(w.error_code, pfec::kW | pfec::kU) << "level " << level;
    EXPECT_EQ(w.level, level);
    set_entry(level, old);
  }
}

TEST_F(GuestWalker, NotPresentHidesReservedBits) {
  set_entry(2, bit(51));
  EXPECT_EQ(walk(user_read()).error_code, pfec::kU);
}

TEST_F(GuestWalker, ReservedBitAtEachLevel) {
  for (unsigned level = 1; level <= 4; ++level) {
    const u64 old = entry(level);
    set_entry(level, old | bit(51));
    EXPECT_EQ(walk(user_read()).error_code, pfec::kP | pfec::kU | pfec::kRsvd) << level;
    set_entry(level, old);
  }
}

TEST_F(GuestWalker, UpperReservedBitComesBeforeLowerNotPresent) {
  set_entry(3, entry(3) | bit(51));
  set_entry(1, 0);
  EXPECT_EQ(walk(user_read()).error_code, pfec::kP | pfec::kU | pfec::kRsvd);
}

TEST_F(GuestWalker, LowerReservedBitComesBeforeUpperRights) {
  set_entry(4, entry(4) & ~pte::kU);
  set_entry(1, entry(1) | bit(51));
  EXPECT_EQ(walk(user_read()).error_code, pfec::kP | pfec::kU | pfec::kRsvd);
}

TEST_F(GuestWalker, RightsAreTheAndOfAllLevels) {
  struct {
    u64 clear, set;
    AccessRequest request;
    u32 code;
    u8 lost;
  } const kCases[] = {
      {pte::kU, 0, user_read(), pfec::kP | pfec::kU, acc::kU},
      {pte::kW, 0, user_write(), pfec::kP | pfec::kU | pfec::kW, acc::kW},
      {0, pte::kXd, user_fetch(), pfec::kP | pfec::kU | pfec::kI, acc::kX},
  };
  for (const auto& c : kCases) {
    for (unsigned level = 1; level <= 4; ++level) {
      const u64 old = entry(level);
      set_entry(level, (old & ~c.clear) | c.set);
      const GuestWalk w = walk(c.request);
      EXPECT_FALSE(w.ok);
      EXPECT_EQ(w.error_code, c.code) << "level " << level;
      for (unsigned l = 1; l <= 4; ++l) {
        EXPECT_EQ(w.access_through[l - 1], l <= level ? acc::kAll & ~c.lost : acc::kAll);
        EXPECT_EQ(w.access_above(l), l < level ? acc::kAll & ~c.lost : acc::kAll);
      }
      set_entry(level, old);
    }
  }
}

TEST_F(GuestWalker, LargePages) {
  struct {
    unsigned level;
    u64 frame, gfn;
  } const kCases[] = {{2, 0x4060'0000, 0x40600 + 6}, {3, 0x1'4000'0000, 0x140000 + 7 * 512 + 6}};
  for (const auto& c : kCases) {
    const u64 old = entry(c.level);
    set_entry(c.level, c.frame | kAll | pte::kPs | bit(12));
    const GuestWalk w = walk(user_write());
    ASSERT_TRUE(w.ok);
    EXPECT_EQ(w.level, c.level);
    EXPECT_EQ(w.gfn, Gfn{c.gfn});
    EXPECT_EQ(entry(c.level), c.frame | kAll | pte::kPs | bit(12) | pte::kA | pte::kD);
    set_entry(c.level, old);
  }
}

TEST_F(GuestWalker, GigabytePageWithoutTheCapabilityIsReserved) {
  caps_.gbpages = false;
  set_entry(3, 0x4000'0000 | kAll | pte::kPs);
  EXPECT_EQ(walk(user_read()).error_code, pfec::kP | pfec::kU | pfec::kRsvd);
}

TEST_F(GuestWalker, ProtectionKeyOfTheLeaf) {
  regs_.cr4 |= cr4::kPke;
  set_entry(1, kPage | kAll | u64{5} << 59);
  regs_.pkru = 1u << 10;
  const GuestWalk w = walk(user_read());
  EXPECT_EQ(w.pkey, 5);
  EXPECT_EQ(w.error_code, pfec::kP | pfec::kU | pfec::kPk);
  EXPECT_TRUE(walk(user_fetch()).ok);
}

TEST_F(GuestWalker, ReadSetsAInEveryEntryAndDNowhere) {
  const GuestWalk w = walk(user_read());
  for (unsigned level = 1; level <= 4; ++level) {
    EXPECT_EQ(entry(level) & (pte::kA | pte::kD), pte::kA) << "level " << level;
    EXPECT_EQ(w.entry[level - 1], entry(level)) << "the walk tells the value after the update";
  }
}

TEST_F(GuestWalker, WriteSetsDInTheLeafOnly) {
  ASSERT_TRUE(walk(user_write()).ok);
  for (unsigned level = 2; level <= 4; ++level) EXPECT_FALSE(entry(level) & pte::kD) << level;
  EXPECT_EQ(entry(1), kPage | kAll | pte::kA | pte::kD);
}

TEST_F(GuestWalker, NothingIsWrittenWhenAAndDAreSet) {
  walk(user_write());
  const u64 before = platform_.cmpxchgs;
  ASSERT_TRUE(walk(user_write()).ok);
  EXPECT_EQ(platform_.cmpxchgs, before);
}

TEST_F(GuestWalker, FaultOnRightsSetsNothing) {
  set_entry(1, kPage | pte::kP | pte::kU);
  ASSERT_FALSE(walk(user_write()).ok);
  for (unsigned level = 1; level <= 4; ++level) {
    EXPECT_FALSE(entry(level) & (pte::kA | pte::kD)) << "level " << level;
  }
}

TEST_F(GuestWalker, SupervisorWriteWithoutWpSetsDInAReadOnlyPage) {
  regs_.cr0 &= ~cr0::kWp;
  set_entry(1, kPage | pte::kP | pte::kU);
  ASSERT_TRUE(walk({true, false, false, false}).ok);
  EXPECT_TRUE(entry(1) & pte::kD);
}

TEST_F(GuestWalker, LookingSetsNothing) {
  ASSERT_TRUE(walk(user_write(), AdUpdate::kNo).ok);
  EXPECT_EQ(platform_.cmpxchgs, 0u);
}

TEST_F(GuestWalker, EntryChangedBeforeTheUpdateRestartsTheWalk) {
  bool raced = false;
  platform_.before_cmpxchg = [&](Hpa) {
    if (raced) return;
    raced = true;
    set_entry(4, entry(4) & ~pte::kW);
  };
  const GuestWalk w = walk(user_write());
  EXPECT_TRUE(raced);
  EXPECT_EQ(w.error_code, pfec::kP | pfec::kU | pfec::kW) << "rights are those of the new entry";
  EXPECT_FALSE(entry(4) & pte::kA);
}

TEST_F(GuestWalker, ClearedPresentBitIsNotLost) {
  platform_.before_cmpxchg = [&](Hpa) { set_entry(1, 0); };
  EXPECT_EQ(walk(user_write()).error_code, pfec::kU | pfec::kW);
  EXPECT_EQ(entry(1), 0u);
}

TEST_F(GuestWalker, TableThatMapsItself) {
  // The root is its own leaf: the D of the leaf goes into the entry that the walk began with.
  const Gva self{9ull << 39 | 9ull << 30 | 9ull << 21 | 9ull << 12};
  set_entry(4, kTable[3] | kAll);
  const WalkContext c = context();
  const GuestWalk w = walk_guest(memory_, c, regs_, self, user_write(), AdUpdate::kYes);
  ASSERT_TRUE(w.ok);
  EXPECT_EQ(w.gfn, Gfn{kTable[3] >> 12});
  EXPECT_EQ(entry(4), kTable[3] | kAll | pte::kA | pte::kD);
}

TEST_F(GuestWalker, UpdateMarksTheTableDirty) {
  MemslotRequest request;
  request.kind = MemslotRequest::Kind::kFlags;
  request.log_dirty = true;
  ASSERT_EQ(slots_.publish(request), Status::kOk);
  slots_.finish_update();
  walk(user_read());
  EXPECT_EQ(slots_.by_id(0)->arrays.dirty[0], u64{0b11110}) << "tables are at frames 1 to 4";
}

TEST_F(GuestWalker, TableOutsideAllSlots) {
  set_entry(3, kSlotPages << 12 | kAll);
  const GuestWalk w = walk(user_write());
  EXPECT_FALSE(w.ok);
  EXPECT_EQ(w.error_code, pfec::kU | pfec::kW);
  EXPECT_EQ(w.level, 2);
}

TEST_F(GuestWalker, TableInAReadOnlySlot) {
  constexpr Gfn kRom{kSlotPages};
  const Hva rom_hva = kMemory + (kSlotPages << 12);
  add_slot(1, kRom, rom_hva, true);
  set_entry(2, kRom.base().raw | kAll);
  platform_.store(rom_hva + kIndex[0] * 8, kPage | kAll);
  EXPECT_EQ(walk(user_read()).error_code, pfec::kU) << "A cannot be set";
  platform_.store(rom_hva + kIndex[0] * 8, kPage | kAll | pte::kA);
  EXPECT_TRUE(walk(user_read()).ok) << "A need not be set";
  EXPECT_EQ(walk(user_write()).error_code, pfec::kU | pfec::kW) << "D cannot be set";
}

TEST_F(GuestWalker, TableOnAPageThatTheHostDoesNotBack) {
  platform_.host_page(kMemory + kTable[1]).kind = FrameLookup::Kind::kPoisoned;
  const GuestWalk w = walk(user_read());
  EXPECT_EQ(w.error_code, pfec::kU);
  EXPECT_EQ(w.level, 2);
}

TEST_F(GuestWalker, WalkHoldsUntilAnEntryChanges) {
  const GuestWalk w = walk(user_read());
  const WalkContext c = context();
  for (unsigned level = 1; level <= 4; ++level) {
    const u64 old = entry(level);
    set_entry(level, old | pte::kD);
    EXPECT_TRUE(walk_still_holds(memory_, c, w, 1)) << "D set since";
    for (const u64 changed : {old & ~pte::kW, old & ~pte::kP, old & ~pte::kA, old ^ bit(20)}) {
      set_entry(level, changed);
      EXPECT_FALSE(walk_still_holds(memory_, c, w, 1)) << "level " << level;
      EXPECT_EQ(walk_still_holds(memory_, c, w, level + 1), true) << "level " << level;
    }
    set_entry(level, old);
  }
}

TEST_F(GuestWalker, WalkDoesNotHoldWhenDIsClearedAgain) {
  const GuestWalk w = walk(user_write());
  set_entry(1, entry(1) & ~pte::kD);
  EXPECT_FALSE(walk_still_holds(memory_, context(), w, 1));
}

}  // namespace
}  // namespace mmu
