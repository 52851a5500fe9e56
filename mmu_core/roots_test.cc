#include "mmu_core/roots.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kUsed;
using testing::Outcome;
using testing::page_fault;

constexpr Gva kVa{0x1234'5660'0000}, kTableVa{0x7000'0000'0000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};
constexpr u64 kNoFlush = cr3::kNoFlush;

// Address spaces that map kVa to pages of their own, and all of them kVa's level-1 table of the
// first.
class Roots : public ::testing::Test {
 protected:
  static constexpr unsigned kSpaces = 6;

  Roots() {
    space_[0] = guest_.root();
    for (unsigned i = 1; i < kSpaces; ++i) space_[i] = guest_.new_table();
    for (unsigned i = 0; i < kSpaces; ++i) guest_.map(space_[i], kVa, kPage + i * kPageSize);
    const Gpa table = guest_.table_of(space_[0], kVa);
    for (const Gpa space : space_) guest_.map(space, kTableVa, table);
  }

  void load(unsigned space, u64 bits = 0) {
    ASSERT_TRUE(guest_.cpu().set_cr3(space_[space].raw | bits)) << "space " << space;
    guest_.audit();
  }
  Outcome reaches(unsigned space) { return guest_.reaches(kPage + space * kPageSize); }
  // Stores the first space's entry of kVa through kTableVa, unseen by the core.
  void edit(u64 value) {
    ASSERT_FALSE(guest_.write(kTableVa + ((kVa.raw >> 12) & 511) * 8, value).emulated);
  }
  void use_pcids() { ASSERT_TRUE(guest_.cpu().set_cr4(guest_.cpu().cr4() | cr4::kPcide)); }
  bool flushed_all_or_pcid(u16 pcid) {
    for (const FlushRequest& f : guest_.platform.flushes) {
      if (f.kind == FlushRequest::Kind::kAll) return true;
      if (f.kind == FlushRequest::Kind::kPcid && f.pcid == pcid) return true;
    }
    return false;
  }

  Guest guest_;
  Gpa space_[kSpaces];
};

TEST_F(Roots, EachAddressSpaceHasItsOwnPages) {
  for (unsigned i = 0; i < kSpaces; ++i) {
    load(i);
    EXPECT_EQ(guest_.read(kVa), reaches(i)) << "space " << i;
  }
}

TEST_F(Roots, ThreePreviousOnesAreHits) {
  for (unsigned i = 0; i < 4; ++i) {
    load(i);
    guest_.read(kVa);
  }
  const u64 misses = guest_.stats().root_misses;
  for (unsigned i = 0; i < 4; ++i) {
    load(i);
    EXPECT_EQ(guest_.read(kVa).faults, 0u) << "space " << i;
  }
  EXPECT_EQ(guest_.stats().root_hits, 4u);
  EXPECT_EQ(guest_.stats().root_misses, misses);
}

TEST_F(Roots, TheOldestFallsOut) {
  for (unsigned i = 0; i < 5; ++i) {
    load(i);
    guest_.read(kVa);
  }
  load(0);
  EXPECT_EQ(guest_.stats().root_hits, 0u);
  EXPECT_EQ(guest_.read(kVa), reaches(0));
}

TEST_F(Roots, AHitMovesToTheFront) {
  for (const unsigned i : {0u, 1u, 2u, 3u, 0u, 4u, 5u}) {
    load(i);
    guest_.read(kVa);
  }
  const u64 hits = guest_.stats().root_hits;
  load(0);
  EXPECT_EQ(guest_.stats().root_hits, hits + 1);
}

TEST_F(Roots, LoadFlushesTheHardware) {
  load(0);
  guest_.read(kVa);
  guest_.platform.flushes.clear();
  load(1);
  guest_.read(kVa);
  EXPECT_TRUE(flushed_all_or_pcid(0));
}

TEST_F(Roots, ReservedBitsAreRefused) {
  const u64 before = guest_.cpu().cr3();
  EXPECT_FALSE(guest_.cpu().set_cr3(before | bit(40)));
  EXPECT_FALSE(guest_.cpu().set_cr3(before | kNoFlush)) << "without PCIDs bit 63 is reserved";
  EXPECT_EQ(guest_.cpu().cr3(), before);
}

TEST_F(Roots, NoFlushBitIsNotKept) {
  use_pcids();
  load(0, kNoFlush | 5);
  EXPECT_EQ(guest_.cpu().cr3(), space_[0].raw | 5);
}

TEST_F(Roots, HardwareRunsWithTheGuestsPcid) {
  EXPECT_EQ(guest_.cpu().enter().pcid, 0u);
  use_pcids();
  load(0, 0x123);
  EXPECT_EQ(guest_.cpu().enter().pcid, 0x123u);
}

TEST_F(Roots, NoFlushSwitchToACachedRootFlushesNothing) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  load(1, 2);
  guest_.read(kVa);
  guest_.platform.flushes.clear();
  load(0, kNoFlush | 1);
  EXPECT_EQ(guest_.read(kVa).faults, 0u);
  EXPECT_TRUE(guest_.platform.flushes.empty());
}

TEST_F(Roots, FlushingLoadSyncsItsPcid) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  edit(kOther.raw | kUsed);
  load(0, 1);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Roots, FlushingLoadSyncsOtherRootsOfItsPcid) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  edit(kOther.raw | kUsed);
  load(1, 1);  // another table under the same PCID
  guest_.read(kVa);
  load(0, kNoFlush | 1);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Roots, NoFlushLoadOfAnUnknownRootSyncsWhatItFinds) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  edit(kOther.raw | kUsed);
  load(0, kNoFlush | 7);  // the same tables under a new PCID, of which nothing can be cached
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Roots, InvpcidOfOneAddress) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  edit(kOther.raw | kUsed);
  ASSERT_TRUE(guest_.cpu().invpcid(0, 1, kVa));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Roots, InvpcidOfOneAddressOfAnotherPcid) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  load(1, 2);
  edit(kOther.raw | kUsed);
  guest_.platform.flushes.clear();
  ASSERT_TRUE(guest_.cpu().invpcid(0, 1, kVa));
  EXPECT_TRUE(flushed_all_or_pcid(1));
  load(0, kNoFlush | 1);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

class InvpcidOfWhole : public Roots, public ::testing::WithParamInterface<u64> {};
INSTANTIATE_TEST_SUITE_P(Types, InvpcidOfWhole, ::testing::Values(u64{1}, u64{2}, u64{3}));

TEST_P(InvpcidOfWhole, CurrentPcid) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  edit(kOther.raw | kUsed);
  guest_.platform.flushes.clear();
  ASSERT_TRUE(guest_.cpu().invpcid(GetParam(), GetParam() == 1 ? 1 : 0, Gva{}));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
  EXPECT_TRUE(flushed_all_or_pcid(1));
}

TEST_P(InvpcidOfWhole, OtherPcid) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  load(1, 2);
  edit(kOther.raw | kUsed);
  guest_.platform.flushes.clear();
  ASSERT_TRUE(guest_.cpu().invpcid(GetParam(), GetParam() == 1 ? 1 : 0, Gva{}));
  EXPECT_TRUE(flushed_all_or_pcid(1));
  load(0, kNoFlush | 1);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Roots, InvpcidRefusesBadOperands) {
  use_pcids();
  const Gva non_canonical{u64{1} << 63};
  EXPECT_FALSE(guest_.cpu().invpcid(4, 0, Gva{}));
  EXPECT_FALSE(guest_.cpu().invpcid(1, 0x1000, Gva{}));
  EXPECT_FALSE(guest_.cpu().invpcid(0, 0, non_canonical));
  EXPECT_TRUE(guest_.cpu().invpcid(1, 0, non_canonical)) << "only type 0 looks at the address";
}

TEST_F(Roots, InvpcidRefusesAPcidWhileTheyAreOff) {
  EXPECT_FALSE(guest_.cpu().invpcid(0, 1, kVa));
  EXPECT_FALSE(guest_.cpu().invpcid(1, 1, kVa));
  EXPECT_TRUE(guest_.cpu().invpcid(0, 0, kVa));
}

TEST_F(Roots, TurningPcidsOffForgetsThemAll) {
  use_pcids();
  load(0, 1);
  guest_.read(kVa);
  edit(kOther.raw | kUsed);
  load(0);
  ASSERT_TRUE(guest_.cpu().set_cr4(guest_.cpu().cr4() & ~cr4::kPcide));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(Roots, PcidsCannotBeTurnedOnUnderAPcid) {
  load(0, 8);  // PWT and such while PCIDs are off
  EXPECT_FALSE(guest_.cpu().set_cr4(guest_.cpu().cr4() | cr4::kPcide));
}

TEST_F(Roots, RootsInUseSurviveReclaim) {
  guest_.read(kVa);
  const Hpa root = guest_.cpu().enter().root;
  guest_.vm().reclaim(1000);
  guest_.audit();
  EXPECT_EQ(guest_.cpu().enter().root, root);
  EXPECT_EQ(guest_.read(kVa), reaches(0));
}

TEST_F(Roots, ZapAllMakesNewOnes) {
  guest_.read(kVa);
  load(1);
  guest_.read(kVa);
  const Hpa root = guest_.cpu().enter().root;
  guest_.vm().zap_all();
  guest_.audit();
  EXPECT_NE(guest_.cpu().enter().root, root);
  EXPECT_EQ(guest_.platform.table_at(root), nullptr) << "the obsolete root is given back";
  load(0);
  EXPECT_EQ(guest_.read(kVa), reaches(0));
}

TEST_F(Roots, ZappedRootLivesUntilItsVcpuLetsGo) {
  guest_.read(kVa);
  const Hpa root = guest_.cpu().enter().root;
  guest_.vm().zap_all();
  EXPECT_NE(guest_.platform.table_at(root), nullptr) << "the hardware may still be in it";
}

TEST_F(Roots, Cr3OutsideMemoryFaultsEverywhere) {
  ASSERT_TRUE(guest_.cpu().set_cr3(u64{1} << 36));
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
  EXPECT_EQ(guest_.fetch(kVa), page_fault(pfec::kI));
}

TEST_F(Roots, MemoryThatAppearsUnderCr3IsUsed) {
  constexpr Gpa kFarRoot{u64{1} << 36};
  constexpr Hva kFarHva = kMemory + (u64{1} << 34);
  ASSERT_TRUE(guest_.cpu().set_cr3(kFarRoot.raw));
  ASSERT_EQ(guest_.read(kVa), page_fault(0));
  guest_.platform.store(kFarHva + ((kVa.raw >> 39) & 511) * 8,
                        guest_.load(guest_.entry(space_[0], kVa, 4)));
  guest_.add_slot(1, Gfn::of(kFarRoot), 1, kFarHva);
  EXPECT_EQ(guest_.read(kVa), reaches(0));
}

TEST_F(Roots, MemoryThatGoesFromUnderCr3) {
  constexpr Gpa kFarRoot{u64{1} << 36};
  constexpr Hva kFarHva = kMemory + (u64{1} << 34);
  guest_.add_slot(1, Gfn::of(kFarRoot), 1, kFarHva);
  guest_.platform.store(kFarHva + ((kVa.raw >> 39) & 511) * 8,
                        guest_.load(guest_.entry(space_[0], kVa, 4)));
  ASSERT_TRUE(guest_.cpu().set_cr3(kFarRoot.raw));
  ASSERT_EQ(guest_.read(kVa), reaches(0));
  ASSERT_EQ(guest_.slot_request(MemslotRequest::Kind::kDelete, 1), Status::kOk);
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
}

TEST_F(Roots, EverythingIsGivenBackAtTheEnd) {
  for (unsigned i = 0; i < kSpaces; ++i) {
    load(i);
    guest_.read(kVa);
  }
  ASSERT_TRUE(guest_.cpu().set_cr3(u64{1} << 36));
  guest_.read(kVa);
  guest_.vm().destroy();
  EXPECT_EQ(guest_.platform.tables_in_use(), 0u);
  EXPECT_EQ(guest_.platform.objects_in_use(), 0u);
}

}  // namespace
}  // namespace mmu
