// One rule a test: what it allows, and the nearest thing that it forbids.

#include "oracle/staleness.h"

#include <gtest/gtest.h>

#include "oracle/testbed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000, kSecond = 0x6000;
constexpr std::uint64_t kOld = 0x40000, kNew = 0x50000;
constexpr std::uint64_t kLeaf = Testbed::kPt + 5 * 8, kPde = Testbed::kPd;

// A memslot that moves to where it is already stays: that is no event.
void move_away_and_back(Testbed& bed) {
  Op op;
  op.verb = Verb::kSlotMove;
  op.slot = 0;
  for (const std::uint64_t gpa : {std::uint64_t{1} << 33, std::uint64_t{0}}) {
    op.gpa = gpa;
    EXPECT_EQ(says(bed.step(op, Outcome{})), "ok");
  }
}

class Stale : public ::testing::TestWithParam<Profile> {
 protected:
  Testbed bed{GetParam()};
  bool kvm() const { return GetParam() == Profile::kKvm; }
  void SetUp() override {
    bed.map(kGva, kOld | kLeafUsed);
    ASSERT_EQ(says(bed.access_fresh(AccessKind::kRead, kGva)), "ok");
  }
  std::string read_old() {
    return says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kOld)));
  }
  std::string read_new() { return says(bed.access_fresh(AccessKind::kRead, kGva)); }
  std::string fault_read(std::uint32_t ec) {
    return says(bed.access(AccessKind::kRead, kGva, bed.fault(kGva, ec)));
  }
};
INSTANTIATE_TEST_SUITE_P(Profiles, Stale, ::testing::Values(Profile::kKvm, Profile::kArchitecture),
                         [](const auto& p) { return std::string(name_of(p.param)); });

TEST_P(Stale, Rule5RemappedLeafMayAlternateUntilInvlpg) {
  bed.write(kLeaf, kNew | kLeafUsed);
  EXPECT_EQ(read_old(), "ok");
  EXPECT_EQ(read_new(), "ok");
  EXPECT_EQ(read_old(), "ok");
  EXPECT_EQ(bed.spec.counters().stale, 2u);
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-6");
  EXPECT_EQ(read_new(), "ok");
}

TEST_P(Stale, Rule5StoreThroughTheOldTranslationLandsInTheOldFrame) {
  bed.write(kLeaf, kNew | kLeafUsed);
  Outcome o = bed.through(AccessKind::kWrite, kGva, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, kGva, o)), "ok");
  EXPECT_EQ(bed.spec.read_word(kOld), store_stamp(2));
  EXPECT_EQ(bed.spec.read_word(kNew), seed_word(kNew));
}

TEST_P(Stale, OtherFramesAreNeverExplained) {
  bed.write(kLeaf, kNew | kLeafUsed);
  EXPECT_EQ(
      says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, 0x60000))),
      "wrong-frame/fresh");
}

TEST_P(Stale, Rule5NarrowedRightsMayStillPass) {
  bed.write(kLeaf, kOld | (kLeafUsed & ~pte::kW));
  Outcome o = bed.through(AccessKind::kWrite, kGva, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, kGva, o)), "ok");
  bed.invlpg(kGva);
  o = bed.through(AccessKind::kWrite, kGva, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, kGva, o)), "stale-after-flush/stale-6");
}

TEST_P(Stale, Rule5UnmappedLeafMayStillTranslate) {
  bed.write(kLeaf, 0);
  EXPECT_EQ(read_old(), "ok");
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-6");
}

TEST_P(Stale, Rule1NothingIsCachedFromNotPresent) {
  bed.write(kLeaf, 0);
  bed.invlpg(kGva);
  EXPECT_EQ(fault_read(0), "ok");
  bed.write(kLeaf, kNew | kLeafUsed);
  EXPECT_EQ(fault_read(0), kvm() ? "spurious-fault/virtual-25" : "spurious-fault/stale-3");
  EXPECT_EQ(read_new(), "ok");
}

TEST_P(Stale, Rule1NothingIsCachedFromReservedBits) {
  bed.write(kLeaf, kNew | kLeafUsed | bit(50));
  bed.invlpg(kGva);
  EXPECT_EQ(fault_read(pfec::kP | pfec::kRsvd), "ok");
  bed.write(kLeaf, kNew | kLeafUsed);
  EXPECT_NE(fault_read(pfec::kP | pfec::kRsvd), "ok");
}

TEST_P(Stale, Rule1ReservedValuesExplainNoTranslation) {
  bed.write(kLeaf, kNew | kLeafUsed | bit(50));
  bed.write(kLeaf, kOld | kLeafUsed);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kNew))),
            "wrong-frame/fresh");
}

TEST_P(Stale, Rule2NothingIsCachedWithoutAccessed) {
  bed.write(kLeaf, kNew | kPwu);
  bed.write(kLeaf, kOld | kLeafUsed);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kNew))),
            "wrong-frame/fresh");
}

TEST_P(Stale, Rule3WideningMayFaultOnceOnBareHardware) {
  bed.write(kLeaf, kOld | (kLeafUsed & ~pte::kW));
  bed.invlpg(kGva);
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kRead, kGva)), "ok");
  bed.write(kLeaf, kOld | kLeafUsed);
  const std::uint32_t ec = pfec::kP | pfec::kW;
  const std::string first = says(bed.access(AccessKind::kWrite, kGva, bed.fault(kGva, ec)));
  EXPECT_EQ(first, kvm() ? "spurious-fault/kvm" : "ok");
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, kGva, bed.fault(kGva, ec))),
            kvm() ? "spurious-fault/kvm" : "spurious-fault/stale-3")
      << "the first fault invalidated the address";
}

TEST(StaleAmd, Rule3WalksAgainBeforeItFaults) {
  Machine amd;
  amd.vendor = Vendor::kAmd;
  Testbed bed(Profile::kArchitecture, amd);
  bed.map(kGva, kOld | (kLeafUsed & ~pte::kW));
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.write(kLeaf, kOld | kLeafUsed);
  EXPECT_EQ(bed.access(AccessKind::kWrite, kGva, bed.fault(kGva, pfec::kP | pfec::kW)).divergence,
            DivergenceClass::kSpuriousFault);
}

TEST_P(Stale, Rule4DeliveredFaultInvalidatesTheAddress) {
  bed.write(kLeaf, 0);
  EXPECT_EQ(fault_read(0), "ok");
  EXPECT_EQ(read_old(), "stale-after-flush/stale-4");
}

TEST_P(Stale, Rule4FaultLeavesOtherAddressesAlone) {
  bed.spec.write_word(kLeaf + 8, kOld | kLeafUsed);
  bed.write(kLeaf, 0);
  bed.write(kLeaf + 8, 0);
  EXPECT_EQ(fault_read(0), "ok");
  EXPECT_EQ(
      says(bed.access(AccessKind::kRead, kSecond, bed.through(AccessKind::kRead, kSecond, kOld))),
      "ok");
}

TEST_P(Stale, Rule4FaultEndsAGlobalTranslationInItsOwnPcidOnly) {
  constexpr std::uint64_t kOther = 0x180000, kKeep = bit(63);
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kPge | cr4::kPcide);
  bed.mov(Reg::kCr3, Testbed::kRoot | 1);
  bed.write(kLeaf, kOld | kLeafUsed | pte::kG);
  EXPECT_EQ(read_old(), "ok");
  bed.write(kLeaf, 0);
  bed.write(kOther + (kGva >> 39 & 511) * 8, 0);
  bed.mov(Reg::kCr3, kOther | 2);
  EXPECT_EQ(fault_read(0), "ok");
  bed.mov(Reg::kCr3, Testbed::kRoot | 1 | kKeep);
  EXPECT_EQ(read_old(), "ok");
  EXPECT_EQ(fault_read(0), "ok");
  EXPECT_EQ(read_old(), "stale-after-flush/stale-4");
}

TEST_P(Stale, Rule5OldUpperEntryOnBareHardwareOnly) {
  const std::uint64_t table = 0x110000;
  bed.spec.write_word(table + 5 * 8, kNew | kLeafUsed);
  bed.write(kPde, table | kPwua);
  EXPECT_EQ(read_old(), kvm() ? "wrong-frame/kvm" : "ok");
}

TEST_P(Stale, Rule5OldUpperWithNewLowerEntry) {
  // The old table's leaf changes after the upper entry went elsewhere: old upper, new lower.
  const std::uint64_t table = 0x110000;
  bed.spec.write_word(table + 5 * 8, kNew | kLeafUsed);
  bed.write(kPde, table | kPwua);
  bed.write(kLeaf, 0x60000 | kLeafUsed);
  const Outcome o = bed.through(AccessKind::kRead, kGva, 0x60000);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, o)), kvm() ? "wrong-frame/kvm" : "ok");
}

TEST(StaleOrder, NewUpperWithAnOlderLowerEntryIsNoWalk) {
  // The leaf left the table before the upper entry came to refer to it: no walk saw both.
  Testbed bed(Profile::kArchitecture);
  const std::uint64_t table = 0x110000;
  bed.map(kGva, kOld | kLeafUsed);
  bed.spec.write_word(table + 5 * 8, kNew | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.write(table + 5 * 8, 0x60000 | kLeafUsed);
  bed.write(kPde, table | kPwua);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kNew))),
            "wrong-frame/fresh");
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kOld))),
            "ok");
}

// With two dimensions an access may exit and begin again: a first attempt by the former directory
// takes what is a PDPTE now for the entry of the page, and sets D there. Nothing sets D elsewhere.
TEST(StaleOrder, AnAccessThatBeganByAFormerWay) {
  for (const Dimension core : {Dimension::kEpt, Dimension::kBare}) {
    for (const unsigned dirty : {1u, 2u}) {
      Machine machine;
      machine.core = core;
      Testbed bed(Profile::kArchitecture, machine);
      bed.map(0, kOld | kLeafUsed);
      bed.access_fresh(AccessKind::kRead, 0);
      bed.write(Testbed::kPt, 0x110000 | kPwu);
      bed.write(0x110000, 0x111000 | kPwu);
      bed.write(0x111000, kNew | kPwu);
      bed.write(Testbed::kRoot, Testbed::kPt | kPwu);
      Outcome o = bed.fresh(AccessKind::kWrite, 0);
      o.path[0].entry[dirty] |= pte::kD;
      const bool lawful = core == Dimension::kEpt && dirty == 1;
      EXPECT_EQ(says(bed.access(AccessKind::kWrite, 0, o)), lawful ? "ok" : "accessed-dirty/dirty")
          << name_of(core) << ", entry " << dirty;
    }
  }
}

TEST(StaleStructures, Rule6InvlpgElsewhereDropsThePagingStructureCaches) {
  // After INVLPG of another address an old upper entry survives only in a translation made before,
  // and that cannot contain a leaf value which came later.
  Testbed bed(Profile::kArchitecture);
  const std::uint64_t table = 0x110000;
  bed.map(kGva, kOld | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.spec.write_word(table + 5 * 8, kNew | kLeafUsed);
  bed.write(kPde, table | kPwua);
  bed.invlpg(kSecond);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kOld))),
            "ok")
      << "the whole translation is older than the INVLPG";
  bed.write(kLeaf, 0x60000 | kLeafUsed);
  EXPECT_EQ(
      says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, 0x60000))),
      "wrong-frame/fresh");
}

TEST_P(Stale, Rule6InvlpgLeavesOtherPagesAlone) {
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.invlpg(kSecond);
  EXPECT_EQ(read_old(), "ok");
}

TEST_P(Stale, Rule13InvlpgOfNonCanonicalAddressDoesNothing) {
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.invlpg(kGva | bit(47));
  EXPECT_EQ(read_old(), "ok");
}

TEST_P(Stale, Rule8MovCr3DropsNonGlobal) {
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.mov(Reg::kCr3, Testbed::kRoot);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-8");
}

TEST_P(Stale, Rule12GlobalSurvivesMovCr3ButNotPgeChange) {
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kPge);
  bed.write(kLeaf, kOld | kLeafUsed | pte::kG);
  EXPECT_EQ(read_new(), "ok");
  bed.write(kLeaf, kNew | kLeafUsed | pte::kG);
  bed.mov(Reg::kCr3, Testbed::kRoot);
  EXPECT_EQ(read_old(), "ok");
  bed.mov(Reg::kCr4, cr4::kPae);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-9");
}

TEST_P(Stale, Rule12GlobalBitMeansNothingWithoutPge) {
  bed.write(kLeaf, kOld | kLeafUsed | pte::kG);
  EXPECT_EQ(read_new(), "ok");
  bed.write(kLeaf, kNew | kLeafUsed | pte::kG);
  bed.mov(Reg::kCr3, Testbed::kRoot);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-8");
}

TEST_P(Stale, Rule8NoFlushKeepsThePcid) {
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kPcide);
  bed.mov(Reg::kCr3, Testbed::kRoot | 1);
  EXPECT_EQ(read_new(), "ok");
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.mov(Reg::kCr3, Testbed::kRoot | 2);
  bed.mov(Reg::kCr3, Testbed::kRoot | 1 | cr3::kNoFlush);
  EXPECT_EQ(read_old(), "ok");
  bed.mov(Reg::kCr3, Testbed::kRoot | 2 | cr3::kNoFlush);
  bed.mov(Reg::kCr3, Testbed::kRoot | 1);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-8");
}

TEST_P(Stale, Rule8InvlpgOfAnotherPcidDoesNotReach) {
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kPcide);
  bed.mov(Reg::kCr3, Testbed::kRoot | 1);
  EXPECT_EQ(read_new(), "ok");
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.mov(Reg::kCr3, Testbed::kRoot | 2);
  bed.invlpg(kGva);
  bed.mov(Reg::kCr3, Testbed::kRoot | 1 | cr3::kNoFlush);
  EXPECT_EQ(read_old(), "ok");
}

TEST_P(Stale, Rule8OldRootUnderTheSamePcidWithNoFlush) {
  const std::uint64_t root2 = 0x120000;
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kPcide);
  bed.mov(Reg::kCr3, Testbed::kRoot | 1);
  EXPECT_EQ(read_new(), "ok");
  bed.mov(Reg::kCr3, root2 | 1 | cr3::kNoFlush);  // an empty root
  EXPECT_EQ(read_old(), "ok");
  EXPECT_EQ(fault_read(0), "ok");
  bed.mov(Reg::kCr3, root2 | 1);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-8");
}

TEST_P(Stale, Rule9SmepAndPcideAndNxe) {
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.mov(Reg::kEfer, efer::kLme | efer::kLma);
  EXPECT_EQ(read_old(), "ok") << "EFER.NXE drops nothing";
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kSmap);
  EXPECT_EQ(bed.mov(Reg::kAc, 1).kind, VerdictKind::kAgree);
  EXPECT_EQ(read_old(), "ok") << "CR4.SMAP drops nothing";
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kSmap | cr4::kSmep);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-9");
}

TEST_P(Stale, Rule9PcideClearDropsEverything) {
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kPcide);
  bed.write(kLeaf, kNew | kLeafUsed);
  EXPECT_EQ(read_old(), "ok");
  bed.mov(Reg::kCr4, cr4::kPae);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-9");
}

TEST_P(Stale, InvpcidTypes) {
  for (const std::uint64_t type : {0, 1, 2, 3}) {
    bed.spec.reset(Machine{}, GetParam());
    bed.map(kGva, kOld | kLeafUsed);
    bed.mov(Reg::kCr4, cr4::kPae | cr4::kPge | cr4::kPcide);
    bed.mov(Reg::kCr3, Testbed::kRoot | 7);
    for (const std::uint64_t global : {std::uint64_t{0}, pte::kG}) {
      bed.write(kLeaf, kOld | kLeafUsed | global);
      bed.invpcid(2, 0, 0);
      EXPECT_EQ(read_new(), "ok");
      bed.write(kLeaf, kNew | kLeafUsed | global);
      bed.invpcid(type, 6, kGva);  // another PCID
      const bool all = type >= 2;
      const bool gone = all && !(global && type == 3);
      EXPECT_EQ(read_old(), gone ? "stale-after-flush/invpcid" : "ok")
          << type << " other pcid, global " << global;
    }
    bed.write(kLeaf, kOld | kLeafUsed);
    bed.invpcid(2, 0, 0);
    EXPECT_EQ(read_new(), "ok");
    bed.write(kLeaf, kNew | kLeafUsed);
    bed.invpcid(type, 7, kGva);
    EXPECT_EQ(read_old(), "stale-after-flush/invpcid") << type;
  }
}

TEST_P(Stale, Rule7InvlpgDropsAllOfALargePageThatMapsTheAddressNow) {
  bed.write(kPde, 0x200000 | kLeafUsed | pte::kPs);
  bed.invlpg(kGva);
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kRead, kGva)), "ok");
  bed.write(kPde, 0x400000 | kLeafUsed | pte::kPs);
  const std::uint64_t elsewhere = 0x9000;
  Outcome o = bed.through(AccessKind::kRead, elsewhere, 0x200000 + elsewhere);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, elsewhere, o)), kvm() ? "wrong-frame/kvm" : "ok");
  bed.invlpg(kGva);
  o = bed.through(AccessKind::kRead, elsewhere, 0x200000 + elsewhere);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, elsewhere, o)), "stale-after-flush/stale-6");
}

// A table gets a second way that was not there before: nothing can have gone it by what the table
// held until then. (Nor may a shadow of the table that was left behind be linked as it is.)
TEST_P(Stale, ANewWayToATableLeadsToWhatItHoldsSince) {
  const std::uint64_t elsewhere = kGva + 0x200000;
  bed.write(kLeaf, kNew | kLeafUsed);
  EXPECT_EQ(read_old(), "ok");
  bed.write(kPde + 8, Testbed::kPt | kPwua);
  const Outcome o = bed.through(AccessKind::kRead, elsewhere, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, elsewhere, o)), "wrong-frame/fresh");
  EXPECT_EQ(read_old(), "ok") << "the first way is as it was";
  // What the table held while the way was there may be cached by it.
  bed.write(kLeaf, 0x60000 | kLeafUsed);
  const Outcome later = bed.through(AccessKind::kRead, elsewhere, kNew);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, elsewhere, later)), "ok");
}

TEST(StaleFragments, Rule7AfterASplitFragmentsElsewhereMayRemain) {
  Testbed bed(Profile::kArchitecture);
  bed.map(kGva, kOld | kLeafUsed);
  bed.spec.write_word(kPde, 0x200000 | kLeafUsed | pte::kPs);
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.write(kPde, Testbed::kPt | kPwua);  // 4K pages now
  bed.invlpg(kGva);
  const Outcome o = bed.through(AccessKind::kRead, kSecond, 0x200000 + kSecond);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kSecond, o)), "ok");
  const Outcome dropped = bed.through(AccessKind::kRead, kGva, 0x200000 + kGva);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, dropped)), "stale-after-flush/stale-6");
}

// A translation of a 4K page is no fragment of the large page that has come since.
TEST(StaleFragments, Rule7SmallPagesElsewhereInALargePageMayRemain) {
  Testbed bed(Profile::kArchitecture);
  bed.map(kGva, kOld | kLeafUsed);
  bed.map(kSecond, kOld | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.access_fresh(AccessKind::kRead, kSecond);
  bed.write(kPde, 0x200000 | kLeafUsed | pte::kPs);
  bed.invlpg(kGva);
  const Outcome o = bed.through(AccessKind::kRead, kSecond, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kSecond, o)), "ok");
  const Outcome dropped = bed.through(AccessKind::kRead, kGva, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, dropped)), "stale-after-flush/stale-6");
}

// INVLPG of the large page has dropped the way to the page table: what the table holds since
// then nobody can have walked.
TEST(StaleFragments, Rule7NoSmallPageComesAfterTheLargeOneWasDropped) {
  Testbed bed(Profile::kArchitecture);
  bed.map(kGva, kOld | kLeafUsed);
  bed.map(kSecond, kOld | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kSecond);
  bed.write(kPde, 0x200000 | kLeafUsed | pte::kPs);
  bed.invlpg(kGva);
  bed.write(Testbed::kPt + (kSecond >> 12 & 511) * 8, kNew | kLeafUsed);
  const Outcome o = bed.through(AccessKind::kRead, kSecond, kNew);
  EXPECT_NE(says(bed.access(AccessKind::kRead, kSecond, o)), "ok");
}

TEST_P(Stale, AccessedAndDirtyClearedWithoutInvalidationNeedNotComeBack) {
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kWrite, kGva)), "ok");
  bed.write(kLeaf, kOld | kPwu);
  Outcome o = bed.through(AccessKind::kWrite, kGva, kOld);  // entries as they are: no A, no D
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, kGva, o)), "ok");
  EXPECT_EQ(bed.spec.read_word(kLeaf), kOld | kPwu) << "followed";
  bed.invlpg(kGva);
  o = bed.through(AccessKind::kWrite, kGva, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, kGva, o)), "accessed-dirty/accessed");
}

TEST_P(Stale, CachedWithoutDirtyWalksAgainForAStore) {
  bed.write(kLeaf, kOld | kPwua);
  bed.invlpg(kGva);
  EXPECT_EQ(read_new(), "ok");
  bed.write(kLeaf, kNew | kPwua);
  const Outcome o = bed.through(AccessKind::kWrite, kGva, kOld);
  EXPECT_NE(says(bed.access(AccessKind::kWrite, kGva, o)), "ok");
}

TEST_P(Stale, ControlsActAtOnceOnCachedRights) {
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.mov(Reg::kCpl, 3);
  EXPECT_EQ(read_old(), "ok");
  bed.mov(Reg::kCpl, 0);
  bed.mov(Reg::kCr4, cr4::kPae | cr4::kSmap);
  EXPECT_EQ(read_old(), "missed-fault/smap");
}

TEST_P(Stale, OtherVcpusInvalidationDoesNotReach) {
  Machine two;
  two.vcpus = 2;
  bed.spec.reset(two, GetParam());
  bed.map(kGva, kOld | kLeafUsed);
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.invlpg(kGva);  // vCPU 0
  const Outcome o = bed.through(AccessKind::kRead, kGva, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, o, 1)), "ok");
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, o, 0)), "stale-after-flush/stale-6");
}

TEST_P(Stale, CrossingMayMixOldAndNewHalves) {
  const std::uint64_t at = kGva + 0xffc;
  bed.spec.write_word(kLeaf + 8, 0x60000 | kLeafUsed);
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kRead, at)), "ok");
  bed.write(kLeaf, kNew | kLeafUsed);
  bed.write(kLeaf + 8, 0x70000 | kLeafUsed);
  Outcome o = bed.fresh(AccessKind::kRead, at);
  o.gpa[0] = kOld + 0xffc;
  o.value = bed.spec.read_word(kOld + 0xff8) >> 32 | bed.spec.read_word(0x70000) << 32;
  EXPECT_EQ(says(bed.access(AccessKind::kRead, at, o)), "ok");
  o.gpa[1] = 0x60000;
  EXPECT_NE(says(bed.access(AccessKind::kRead, at, o)), "ok") << "the value is not of those frames";
  o.value = bed.spec.read_word(kOld + 0xff8) >> 32 | bed.spec.read_word(0x60000) << 32;
  EXPECT_EQ(says(bed.access(AccessKind::kRead, at, o)), "ok");
}

// --- the virtualised machine -----------------------------------------------

class HostEdit : public ::testing::Test {
 protected:
  Testbed bed{Profile::kKvm};
  void SetUp() override {
    bed.map(kGva, kOld | kLeafUsed);
    bed.access_fresh(AccessKind::kRead, kGva);
  }
  std::string read_old() {
    return says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kOld)));
  }
};

TEST_F(HostEdit, Rule31LeafStaysStaleThroughInvalidations) {
  bed.write(kLeaf, kNew | kLeafUsed, Writer::kHost);
  bed.invlpg(kGva);
  bed.mov(Reg::kCr3, Testbed::kRoot);
  EXPECT_EQ(read_old(), "ok");
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kRead, kGva)), "ok");
}

TEST_F(HostEdit, Rule31EndsWithTheGuestsOwnStoreAndInvalidation) {
  bed.write(kLeaf, kNew | kLeafUsed, Writer::kHost);
  bed.write(kLeaf, 0x60000 | kLeafUsed, Writer::kGuest);
  EXPECT_EQ(read_old(), "ok") << "still within the guest's own window";
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-6");
}

TEST_F(HostEdit, Rule31UpperEntryToo) {
  const std::uint64_t table = 0x110000;
  bed.spec.write_word(table + 5 * 8, kNew | kLeafUsed);
  bed.write(kPde, table | kPwua, Writer::kHost);
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "ok");
  bed.write(kPde, table | kPwua | pte::kPcd, Writer::kGuest);
  EXPECT_NE(read_old(), "ok") << "the guest stored to that entry";
}

TEST_F(HostEdit, Rule31EndsWhenTheOldFrameGoes) {
  for (const Verb verb : {Verb::kInvalidate, Verb::kRemap}) {
    bed.spec.reset(Machine{}, Profile::kKvm);
    bed.map(kGva, kOld | kLeafUsed);
    bed.access_fresh(AccessKind::kRead, kGva);
    bed.write(kLeaf, kNew | kLeafUsed, Writer::kHost);
    Op op;
    op.verb = verb;
    op.hva = kHvaBase + kOld, op.pages = 1;
    EXPECT_EQ(says(bed.step(op, Outcome{})), "ok");
    EXPECT_NE(read_old(), "ok") << name_of(verb);
  }
}

TEST_F(HostEdit, Rule31InvalidatedTablePageIsAnUntrackedEdit) {
  Op op;
  op.verb = Verb::kInvalidate;
  op.hva = kHvaBase + Testbed::kPt, op.pages = 1;
  EXPECT_EQ(says(bed.step(op, Outcome{})), "ok");
  EXPECT_EQ(bed.spec.read_word(kLeaf), 0u);
  EXPECT_EQ(read_old(), "ok");
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.fault(kGva, 0))), "ok");
}

// A large page is shadowed by a link to its pieces. The guest's large page at kLarge is edited
// away, then the host takes its frame back; what a load through the former translation sees.
class LargeLink : public ::testing::TestWithParam<Profile> {
 protected:
  static constexpr std::uint64_t kLarge = 0x200000, kOther = 0x400000;
  Testbed bed{GetParam()};
  bool kvm() const { return GetParam() == Profile::kKvm; }

  void SetUp() override {
    bed.map(kGva, kOld | kLeafUsed);
    bed.spec.write_word(kPde, kLarge | kLeafUsed | pte::kPs);
    ASSERT_EQ(says(bed.access_fresh(AccessKind::kRead, kGva)), "ok");
  }
  void host(Verb verb, std::uint64_t gpa, std::uint64_t pages) {
    Op op;
    op.verb = verb;
    op.hva = kHvaBase + gpa, op.pages = pages;
    ASSERT_EQ(says(bed.step(op, Outcome{})), "ok");
  }
  std::string read_former() {
    return says(
        bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kLarge + kGva)));
  }
};
INSTANTIATE_TEST_SUITE_P(Profiles, LargeLink,
                         ::testing::Values(Profile::kKvm, Profile::kArchitecture),
                         [](const auto& p) { return std::string(name_of(p.param)); });

// A shadow MMU with a processor in front of it: what either keeps.
TEST(ShadowOnProcessor, KeepsWhatTheShadowKeepsAndWhatTheProcessorKeeps) {
  Testbed bed(Profile::kKvmOnProcessor);
  bed.map(kGva, kOld | kLeafUsed);
  ASSERT_EQ(says(bed.access_fresh(AccessKind::kRead, kGva)), "ok");
  const std::uint64_t table = 0x110000;
  bed.spec.write_word(table + 5 * 8, kNew | kLeafUsed);
  bed.write(kPde, table | kPwua);  // rule 5: no shadow keeps an upper entry
  const auto read_old = [&] {
    return says(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kOld)));
  };
  EXPECT_EQ(read_old(), "ok");
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-6");
}

TEST(ShadowOnProcessor, KeepsWhatTheHostEditedUnannounced) {
  Testbed bed(Profile::kKvmOnProcessor);
  bed.map(kGva, kOld | kLeafUsed);
  bed.spec.write_word(kPde, 0x200000 | kLeafUsed | pte::kPs);
  ASSERT_EQ(says(bed.access_fresh(AccessKind::kRead, kGva)), "ok");
  bed.write(kPde, 0x400000 | kLeafUsed | pte::kPs, Writer::kHost);
  bed.invlpg(kGva);  // rule 31: no flush of the guest's ends what the shadow keeps
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva,
                            bed.through(AccessKind::kRead, kGva, 0x200000 + kGva))),
            "ok");
}

TEST_P(LargeLink, Rule31OutlivesItsFrameAfterAnUnannouncedEdit) {
  bed.write(kPde, kOther | kLeafUsed | pte::kPs, Writer::kHost);
  EXPECT_EQ(read_former(), "ok");
  for (const Verb verb : {Verb::kRemap, Verb::kInvalidate}) {
    host(verb, kLarge, 512);
    EXPECT_EQ(read_former(), kvm() ? "ok" : "wrong-frame/fresh") << name_of(verb);
  }
  bed.invlpg(kGva);
  EXPECT_EQ(read_former(), kvm() ? "ok" : "wrong-frame/fresh") << "no flush ends a link";
}

TEST_P(LargeLink, Rule31ShowsTheFrameThatIsThereNowOnly) {
  const std::uint64_t before = bed.spec.read_word(kLarge + kGva);
  bed.write(kPde, kOther | kLeafUsed | pte::kPs, Writer::kHost);
  host(Verb::kInvalidate, kLarge, 512);
  Outcome o = bed.through(AccessKind::kRead, kGva, kLarge + kGva);
  EXPECT_EQ(o.value, 0u);
  o.value = before;
  EXPECT_NE(says(bed.access(AccessKind::kRead, kGva, o)), "ok");
}

TEST_P(LargeLink, Rule30AnAnnouncedEditEndsIt) {
  bed.write(kPde, kOther | kLeafUsed | pte::kPs, Writer::kGuest);
  EXPECT_EQ(read_former(), kvm() ? "wrong-frame/kvm" : "ok") << "upper tables are write-protected";
  host(Verb::kRemap, kLarge, 512);
  EXPECT_NE(read_former(), "ok");
}

TEST_P(LargeLink, Rule31TheGuestsOwnStoreEndsIt) {
  bed.write(kPde, kOther | kLeafUsed | pte::kPs, Writer::kHost);
  bed.write(kPde, kOther | kPwua | pte::kPs, Writer::kGuest);
  host(Verb::kRemap, kLarge, 512);
  EXPECT_NE(read_former(), "ok");
}

TEST_P(LargeLink, Rule30AMemslotThatMovedEndsIt) {
  bed.write(kPde, kOther | kLeafUsed | pte::kPs, Writer::kHost);
  move_away_and_back(bed);
  EXPECT_NE(read_former(), "ok");
}

TEST_P(LargeLink, Rule31AMemslotAddedLaterIsSeenThroughItUntilOneGoes) {
  constexpr std::uint64_t kNoMemory = std::uint64_t{1} << 32;
  bed.spec.write_word(kPde, kNoMemory | kLeafUsed | pte::kPs);
  Outcome mmio = bed.through(AccessKind::kRead, kGva, kNoMemory + kGva);
  mmio.kind = OutcomeKind::kMmio;
  ASSERT_EQ(says(bed.access(AccessKind::kRead, kGva, mmio)), "ok");
  bed.write(kPde, kOther | kLeafUsed | pte::kPs, Writer::kHost);
  Op op;
  op.verb = Verb::kSlotAdd;
  op.slot = 1, op.gpa = kNoMemory, op.pages = 512, op.hva = kHvaBase + 0x600000;
  ASSERT_EQ(says(bed.step(op, Outcome{})), "ok");
  const auto read_through = [&] {
    return says(bed.access(AccessKind::kRead, kGva,
                           bed.through(AccessKind::kRead, kGva, kNoMemory + kGva)));
  };
  EXPECT_EQ(read_through(), kvm() ? "ok" : "wrong-frame/fresh");
  op.slot = 2, op.gpa = 2 * kNoMemory, op.pages = 1, op.space = 1;
  ASSERT_EQ(says(bed.step(op, Outcome{})), "ok");
  EXPECT_EQ(read_through(), kvm() ? "ok" : "wrong-frame/fresh");
  op.verb = Verb::kSlotDelete;
  ASSERT_EQ(says(bed.step(op, Outcome{})), "ok");
  EXPECT_NE(read_through(), "ok") << "a slot of the other space went: nothing mapped is left";
}

TEST_P(LargeLink, Rule30ASmallPageHasNone) {
  bed.spec.reset(Machine{}, GetParam());
  bed.map(kGva, kOld | kLeafUsed);
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kRead, kGva)), "ok");
  bed.write(kLeaf, kNew | kLeafUsed, Writer::kHost);
  host(Verb::kRemap, kOld, 1);
  const Outcome o = bed.through(AccessKind::kRead, kGva, kOld);
  EXPECT_NE(says(bed.access(AccessKind::kRead, kGva, o)), "ok");
}

// A second memslot shows the page table's host page: one word with two gfns.
class Alias : public HostEdit {
 protected:
  static constexpr std::uint64_t kAlias = std::uint64_t{1} << 32;
  static constexpr std::uint64_t kByTable = 0x8000, kByAlias = 0x9000;  // gvas of the table
  void SetUp() override {
    bed.map(kByTable, Testbed::kPt | kLeafUsed);
    bed.map(kByAlias, kAlias | kLeafUsed);
    HostEdit::SetUp();
    Op add;
    add.verb = Verb::kSlotAdd;
    add.slot = 1, add.gpa = kAlias, add.pages = 1, add.hva = kHvaBase + Testbed::kPt;
    ASSERT_EQ(says(bed.step(add, Outcome{})), "ok");
  }
  // A native store of a leaf for kGva by the gva at `window`.
  std::string store(std::uint64_t window, std::uint64_t leaf) {
    Op op;
    op.verb = Verb::kAccess;
    op.kind = static_cast<std::uint64_t>(AccessKind::kWrite);
    op.gva = window + 5 * 8;
    op.size = 8;
    op.value = leaf;
    std::string said = says(bed.step(op, bed.fresh(AccessKind::kWrite, op.gva)));
    EXPECT_EQ(bed.spec.read_word(kLeaf), leaf) << "same host page";
    return said;
  }
};

TEST_F(Alias, AnEmulatedStoreThroughAnotherGfnIsUntracked) {
  bed.write(kAlias + 5 * 8, kNew | kLeafUsed, Writer::kGuest);
  EXPECT_EQ(bed.spec.read_word(kLeaf), kNew | kLeafUsed) << "same host page";
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "ok");
}

TEST_F(Alias, ANativeStoreThroughAnotherGfnIsUntracked) {
  EXPECT_EQ(store(kByAlias, kNew | kLeafUsed), "ok");
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "ok");
}

TEST_F(Alias, AStoreThroughTheTablesOwnGfnIsSeen) {
  EXPECT_EQ(store(kByTable, kNew | kLeafUsed), "ok");
  EXPECT_EQ(read_old(), "ok") << "no invalidation yet";
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-6");
}

TEST_F(Alias, AStoreThroughTheTablesOwnGfnEndsAnUntrackedEdit) {
  EXPECT_EQ(store(kByAlias, kNew | kLeafUsed), "ok");
  EXPECT_EQ(store(kByTable, 0x60000 | kLeafUsed), "ok");
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-6");
}

TEST_F(Alias, AStoreThatMayHaveGoneEitherWayIsUntracked) {
  // The window at the table's own gfn was one at the alias until now, and nothing invalidated it.
  bed.write(Testbed::entry_gpa(kByAlias, 1), Testbed::kPt | kLeafUsed);
  EXPECT_EQ(store(kByAlias, kNew | kLeafUsed), "ok");
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "ok");
}

TEST_F(Alias, AnInvalidationTellsWhichWayItWent) {
  bed.write(Testbed::entry_gpa(kByAlias, 1), Testbed::kPt | kLeafUsed);
  bed.invlpg(kByAlias);
  EXPECT_EQ(store(kByAlias, kNew | kLeafUsed), "ok");
  bed.invlpg(kGva);
  EXPECT_EQ(read_old(), "stale-after-flush/stale-6");
}

// No walk can set A or D there, and so nothing that was cached from there need have them.
TEST_F(Alias, InAReadOnlyMemslotAnEntryIsCachedWithoutFlags) {
  for (const bool read_only : {true, false}) {
    Op slot;
    slot.verb = Verb::kSlotDelete, slot.slot = 1;
    ASSERT_EQ(says(bed.step(slot, Outcome{})), "ok");
    slot.verb = Verb::kSlotAdd;
    slot.gpa = kAlias, slot.pages = 1, slot.hva = kHvaBase + Testbed::kPt;
    slot.flags = read_only ? slot_flag::kReadOnly : 0;
    ASSERT_EQ(says(bed.step(slot, Outcome{})), "ok");
    bed.write(kPde + 8, kAlias | kPwua);  // the next 2 MiB, by the alias
    const std::uint64_t gva = kGva + 0x200000;
    for (const AccessKind kind : {AccessKind::kRead, AccessKind::kWrite}) {
      bed.write(kLeaf, kOld | kPwu);
      bed.invlpg(gva);
      bed.write(kLeaf, kNew | kLeafUsed);
      const std::string said = says(bed.access(kind, gva, bed.through(kind, gva, kOld)));
      EXPECT_EQ(said == "ok", read_only) << name_of(kind) << " " << said;
    }
  }
}

TEST(AliasOnBareHardware, TranslationsHaveNoGfn) {
  Testbed bed(Profile::kArchitecture);
  bed.map(kGva, kOld | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kGva);
  Op add;
  add.verb = Verb::kSlotAdd;
  add.slot = 1, add.gpa = std::uint64_t{1} << 32, add.pages = 1, add.hva = kHvaBase + Testbed::kPt;
  EXPECT_EQ(says(bed.step(add, Outcome{})), "ok");
  bed.write((std::uint64_t{1} << 32) + 5 * 8, kNew | kLeafUsed, Writer::kGuest);
  const Outcome old = bed.through(AccessKind::kRead, kGva, kOld);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, old)), "ok");
  bed.invlpg(kGva);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, old)), "stale-after-flush/stale-6");
}

TEST_P(Stale, Rule30OldContentIsNeverSeen) {
  const std::uint64_t old = bed.spec.read_word(kOld);
  Op op;
  op.verb = Verb::kInvalidate;
  op.hva = kHvaBase + kOld, op.pages = 1;
  EXPECT_EQ(says(bed.step(op, Outcome{})), "ok");
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  EXPECT_EQ(o.value, 0u);
  o.value = old;
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, o)), "wrong-frame/virtual-30");
  EXPECT_EQ(read_new(), "ok");
}

TEST_P(Stale, Rule30SlotRecreatedEndsTranslationsToIt) {
  bed.write(kLeaf, kNew | kLeafUsed);
  EXPECT_EQ(read_old(), "ok");
  move_away_and_back(bed);
  EXPECT_NE(read_old(), "ok");
}

TEST_P(Stale, Rule30SlotThatStaysEndsNothing) {
  bed.write(kLeaf, kNew | kLeafUsed);
  Op op;
  op.verb = Verb::kSlotMove;
  op.slot = 0, op.gpa = 0;
  EXPECT_EQ(says(bed.step(op, Outcome{})), "ok");
  EXPECT_EQ(read_old(), "ok");
}

TEST(OldFetch, Rule1FetchMayPrecedeAStoreOnceOnBareHardware) {
  Testbed bed(Profile::kArchitecture);
  bed.map(kGva, 0);
  // A native store through a mapping of the page table.
  const std::uint64_t window = 0x7000;
  bed.spec.write_word(Testbed::entry_gpa(window, 1), Testbed::kPt | kLeafUsed);
  Op op;
  op.verb = Verb::kAccess;
  op.kind = static_cast<std::uint64_t>(AccessKind::kWrite);
  op.gva = window + 5 * 8;
  op.value = kOld | kLeafUsed;
  EXPECT_EQ(says(bed.step(op, bed.fresh(AccessKind::kWrite, op.gva))), "ok");
  const Outcome o = bed.fault(kGva, pfec::kI);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.fault(kGva, 0))),
            "spurious-fault/stale-3");
  EXPECT_EQ(says(bed.access(AccessKind::kFetch, kGva, o)), "ok");
  EXPECT_EQ(says(bed.access(AccessKind::kFetch, kGva, o)), "spurious-fault/stale-3");
}

}  // namespace
}  // namespace twinwalk::oracle
