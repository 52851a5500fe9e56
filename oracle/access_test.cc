// Accesses without staleness: outcomes, accessed and dirty bits, crossing, MMIO.

#include <gtest/gtest.h>

#include "oracle/testbed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000;
constexpr std::uint64_t kFrame = 0x40000, kOther = 0x50000;

void expect_agree(const Verdict& v) {
  EXPECT_EQ(v.kind, VerdictKind::kAgree)
      << name_of(v.divergence) << " got " << v.got << " allowed " << v.allowed;
}
void expect_diverge(const Verdict& v, DivergenceClass c, std::string_view rule) {
  EXPECT_EQ(v.kind, VerdictKind::kDiverge);
  EXPECT_EQ(name_of(v.divergence), name_of(c)) << "got " << v.got << " allowed " << v.allowed;
  ASSERT_NE(v.rule, nullptr);
  EXPECT_EQ(v.rule->id, rule);
}

class Access : public ::testing::TestWithParam<Profile> {
 protected:
  Testbed bed{GetParam()};
  void SetUp() override { bed.map(kGva, kFrame | kPwu, kPwu); }
};
INSTANTIATE_TEST_SUITE_P(Profiles, Access, ::testing::Values(Profile::kKvm, Profile::kArchitecture),
                         [](const auto& p) { return std::string(name_of(p.param)); });

TEST_P(Access, ReadSetsAccessedEverywhereAndDirtyNowhere) {
  expect_agree(bed.access_fresh(AccessKind::kRead, kGva));
  for (unsigned level = 1; level <= 4; ++level) {
    EXPECT_EQ(bed.spec.read_word(Testbed::entry_gpa(kGva, level)) & (pte::kA | pte::kD), pte::kA)
        << level;
  }
}

TEST_P(Access, WriteSetsDirtyInTheLeafAndStoresTheData) {
  expect_agree(bed.access_fresh(AccessKind::kWrite, kGva));
  EXPECT_EQ(bed.spec.read_word(Testbed::entry_gpa(kGva, 1)) & (pte::kA | pte::kD),
            pte::kA | pte::kD);
  EXPECT_EQ(bed.spec.read_word(Testbed::entry_gpa(kGva, 2)) & pte::kD, 0u);
  EXPECT_EQ(bed.spec.read_word(kFrame), store_stamp(0));
}

TEST_P(Access, RmwAddsToTheOldValue) {
  const std::uint64_t old = bed.spec.read_word(kFrame);
  const Outcome o = bed.fresh(AccessKind::kRmw, kGva);
  EXPECT_EQ(o.value, old);
  expect_agree(bed.access(AccessKind::kRmw, kGva, o));
  EXPECT_EQ(bed.spec.read_word(kFrame), old + store_stamp(0));
}

TEST_P(Access, ForgottenAccessedBitIsFound) {
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  o.path[0].entry[2] &= ~pte::kA;
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kAccessedDirty,
                 "accessed");
}

TEST_P(Access, ForgottenDirtyBitIsFound) {
  Outcome o = bed.fresh(AccessKind::kWrite, kGva);
  o.path[0].entry[3] &= ~pte::kD;
  expect_diverge(bed.access(AccessKind::kWrite, kGva, o), DivergenceClass::kAccessedDirty, "dirty");
}

TEST_P(Access, OtherBitsOfAnEntryMustStay) {
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  o.path[0].entry[1] ^= pte::kPcd;
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kWrongPath, "path");
}

TEST_P(Access, AccessedBitIsNeverLost) {
  expect_agree(bed.access_fresh(AccessKind::kWrite, kGva));
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  o.path[0].entry[3] &= ~pte::kD;
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kAccessedDirty,
                 "stale-11");
}

TEST_P(Access, DirtyByAReadIsWrongOrOpen) {
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  o.path[0].entry[3] |= pte::kD;
  const Verdict v = bed.access(AccessKind::kRead, kGva, o);
  if (GetParam() == Profile::kKvm) {
    expect_diverge(v, DivergenceClass::kAccessedDirty, "dirty");
  } else {
    EXPECT_EQ(v.kind, VerdictKind::kUnspecified);
    EXPECT_EQ(v.rule->id, "stale-10");
  }
}

TEST_P(Access, FaultMaySetAccessedButNotDirty) {
  bed.spec.write_word(Testbed::entry_gpa(kGva, 1), kFrame | pte::kP);
  Outcome o = bed.fault(kGva, pfec::kP | pfec::kW);
  for (std::uint64_t& e : o.path[0].entry) e |= e ? pte::kA : 0;
  expect_agree(bed.access(AccessKind::kWrite, kGva, o));
  EXPECT_TRUE(bed.spec.read_word(Testbed::entry_gpa(kGva, 1)) & pte::kA) << "adopted";
  o.path[0].entry[3] |= pte::kD;
  expect_diverge(bed.access(AccessKind::kWrite, kGva, o), DivergenceClass::kAccessedDirty,
                 "ad-fault");
}

TEST_P(Access, NotPresentEntryMustNotChange) {
  bed.spec.write_word(Testbed::entry_gpa(kGva, 1), kFrame);
  Outcome o = bed.fault(kGva, 0);
  o.path[0].entry[3] |= pte::kA;
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kAccessedDirty,
                 "ad-fault");
}

TEST_P(Access, ClassesOfWrongOutcomes) {
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  o.gpa[0] = kOther;
  o.value = bed.spec.read_word(kOther);
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kWrongFrame, "fresh");
  o = bed.fresh(AccessKind::kRead, kGva);
  o.value ^= 0x100;
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kWrongValue, "data");
  o = bed.fault(kGva, pfec::kP);
  EXPECT_EQ(bed.access(AccessKind::kRead, kGva, o).divergence, DivergenceClass::kSpuriousFault);
  bed.write(Testbed::entry_gpa(kGva, 1), 0);
  bed.invlpg(kGva);
  o = bed.fault(kGva, pfec::kU);
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kWrongErrorCode,
                 "present");
  o = bed.fault(kGva + 8, 0);
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kWrongFaultAddress,
                 "cr2");
  o.kind = OutcomeKind::kGp;
  EXPECT_EQ(bed.access(AccessKind::kRead, kGva, o).divergence, DivergenceClass::kWrongException);
  o = bed.through(AccessKind::kRead, kGva, kOther);
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kMissedFault, "present");
}

TEST_P(Access, ComplaintsAreDivergencesOfTheirOwnClass) {
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  o.complaint = Complaint::kAuditRmap;
  expect_diverge(bed.access(AccessKind::kRead, kGva, o), DivergenceClass::kAuditRmap, "own-checks");
}

// The last canonical page of the lower half, and the non-canonical one after it.
constexpr std::uint64_t kEdge = 0x7fff'ffff'ffff;

TEST_P(Access, FaultOrGeneralProtectionAtTheEdgeOfCanonicalSpace) {
  EXPECT_EQ(bed.fresh(AccessKind::kRead, kEdge).kind, OutcomeKind::kGp);
  Outcome o;
  o.kind = OutcomeKind::kGp;
  expect_agree(bed.access(AccessKind::kRead, kEdge, o));
  Outcome fault;
  fault.kind = OutcomeKind::kPageFault;
  fault.cr2 = kEdge;
  const Verdict open = bed.access(AccessKind::kRead, kEdge, fault);
  EXPECT_EQ(open.kind, VerdictKind::kUnspecified);
  ASSERT_NE(open.rule, nullptr);
  EXPECT_EQ(open.rule->id, "crossing");
  fault.cr2 = kEdge + 1;  // the page that cannot be walked
  expect_diverge(bed.access(AccessKind::kRead, kEdge, fault), DivergenceClass::kWrongException,
                 "canonical");
  fault.cr2 = kEdge;
  fault.error_code = pfec::kP;
  expect_diverge(bed.access(AccessKind::kRead, kEdge, fault), DivergenceClass::kWrongException,
                 "canonical");
  // From below: the canonical page is the second one.
  fault.cr2 = 0xffff'8000'0000'0000;
  fault.error_code = pfec::kW;
  EXPECT_EQ(bed.access(AccessKind::kWrite, 0xffff'7fff'ffff'ffff, fault).kind,
            VerdictKind::kUnspecified);
}

TEST_P(Access, NoFaultOfAMappedPageAtTheEdgeOfCanonicalSpace) {
  const std::uint64_t flags = kPwu | pte::kA;
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 4), Testbed::kPdpt | flags);
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 3), Testbed::kPd | flags);
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 2), Testbed::kPt | flags);
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 1), kOther | flags);
  Outcome fault;
  fault.kind = OutcomeKind::kPageFault;
  fault.cr2 = kEdge;
  expect_diverge(bed.access(AccessKind::kRead, kEdge, fault), DivergenceClass::kWrongException,
                 "canonical");
}

// The last page of the canonical half, with no A set.
void map_the_edge(Testbed& bed) {
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 4), Testbed::kPdpt | kPwu);
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 3), Testbed::kPd | kPwu);
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 2), Testbed::kPt | kPwu);
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 1), kOther | kPwu);
}

TEST_P(Access, TheCanonicalHalfMayHaveBeenWalkedBeforeTheGeneralProtection) {
  map_the_edge(bed);
  Outcome o;
  o.kind = OutcomeKind::kGp;
  expect_agree(bed.access(AccessKind::kWrite, kEdge, o));
  for (unsigned level = 1; level <= 4; ++level) {
    const std::uint64_t gpa = Testbed::entry_gpa(kEdge, level);
    const std::uint64_t differs = bed.spec.read_word(gpa) ^ (bed.spec.read_word(gpa) & ~pte::kA);
    EXPECT_EQ(bed.spec.open_bits(gpa, bed.spec.read_word(gpa)) & differs, differs) << level;
    // As of a store whose other half faults: the part that does not fault may have set D.
    const std::uint64_t may = level == 1 ? pte::kA | pte::kD : pte::kA;
    EXPECT_EQ(bed.spec.open_bits(gpa, bed.spec.read_word(gpa)) & ~may, 0u);
    EXPECT_EQ(bed.spec.open_bits(gpa, 0) & pte::kD, may & pte::kD);
  }
}

TEST_P(Access, ACanonicalHalfThatDeniesTheStoreMayHaveBeenWalkedWithoutD) {
  map_the_edge(bed);
  bed.spec.write_word(Testbed::entry_gpa(kEdge, 1), kOther | pte::kP);
  Outcome o;
  o.kind = OutcomeKind::kGp;
  expect_agree(bed.access(AccessKind::kWrite, kEdge, o));
  for (unsigned level = 1; level <= 4; ++level) {
    const std::uint64_t gpa = Testbed::entry_gpa(kEdge, level);
    EXPECT_EQ(bed.spec.open_bits(gpa, bed.spec.read_word(gpa)), pte::kA) << level;
    EXPECT_EQ(bed.spec.open_bits(gpa, 0) & pte::kD, 0u) << level;
  }
}

TEST_P(Access, ALoadThatMeetsTheEdgeSetsNoD) {
  map_the_edge(bed);
  Outcome o;
  o.kind = OutcomeKind::kGp;
  expect_agree(bed.access(AccessKind::kRead, kEdge, o));
  EXPECT_EQ(bed.spec.open_bits(Testbed::entry_gpa(kEdge, 1), 0) & pte::kD, 0u);
}

TEST_P(Access, ATableWithoutMemoryFaultsOrAsksTheDeviceThere) {
  constexpr std::uint64_t kNowhere = std::uint64_t{1} << 32;
  bed.spec.write_word(Testbed::entry_gpa(kGva, 2), kNowhere | kPwu | pte::kA);
  Outcome o;
  o.kind = OutcomeKind::kMmio;
  bed.fill_path(kGva, o.path[0]);
  o.gpa[0] = kNowhere + (kGva >> 12 & 511) * 8;
  const Verdict asked = bed.access(AccessKind::kRead, kGva, o);
  const bool by_hardware = GetParam() == Profile::kArchitecture;
  EXPECT_EQ(asked.kind, by_hardware ? VerdictKind::kUnspecified : VerdictKind::kDiverge);
  o.gpa[0] = kNowhere + 4096;
  EXPECT_EQ(bed.access(AccessKind::kRead, kGva, o).kind, VerdictKind::kDiverge);
}

TEST_P(Access, CrossingStoresInBothFrames) {
  bed.spec.write_word(Testbed::entry_gpa(kGva + 0x1000, 1), kOther | kPwu);
  const Outcome o = bed.fresh(AccessKind::kWrite, kGva + 0xffc);
  EXPECT_EQ(o.gpa[0], kFrame + 0xffc);
  EXPECT_EQ(o.gpa[1], kOther);
  expect_agree(bed.access(AccessKind::kWrite, kGva + 0xffc, o));
  EXPECT_EQ(bed.spec.read_word(kFrame + 0xff8) >> 32, store_stamp(0) & 0xffff'ffff);
  EXPECT_EQ(bed.spec.read_word(kOther) & 0xffff'ffff, store_stamp(0) >> 32);
  EXPECT_TRUE(bed.spec.read_word(Testbed::entry_gpa(kGva + 0x1000, 1)) & pte::kD);
}

TEST_P(Access, CrossingFaultNamesThePageAndStoresNothing) {
  const std::uint64_t before = bed.spec.read_word(kFrame + 0xff8);
  bed.spec.write_word(Testbed::entry_gpa(kGva + 0x1000, 1), 0);
  Outcome o = bed.fresh(AccessKind::kWrite, kGva + 0xffc);
  EXPECT_EQ(o.cr2, kGva + 0x1000);
  expect_agree(bed.access(AccessKind::kWrite, kGva + 0xffc, o));
  EXPECT_EQ(bed.spec.read_word(kFrame + 0xff8), before);
  o.path[0].entry[3] |= pte::kA | pte::kD;  // the part that did not fault may have got D
  expect_agree(bed.access(AccessKind::kWrite, kGva + 0xffc, o));
  o.cr2 = kGva + 0xffc;
  EXPECT_EQ(bed.access(AccessKind::kWrite, kGva + 0xffc, o).kind, VerdictKind::kDiverge);
}

TEST_P(Access, MmioIsWhereNoMemslotIs) {
  const std::uint64_t hole = std::uint64_t{1} << 32;
  bed.spec.write_word(Testbed::entry_gpa(kGva, 1), hole | kPwua);
  const Outcome mmio = bed.fresh(AccessKind::kRead, kGva);
  EXPECT_EQ(mmio.kind, OutcomeKind::kMmio);
  expect_agree(bed.access(AccessKind::kRead, kGva, mmio));
  Op add;
  add.verb = Verb::kSlotAdd;
  add.slot = 1, add.gpa = hole, add.pages = 1, add.hva = kHvaBase + 0x1000'0000;
  expect_agree(bed.step(add, Outcome{}));
  expect_diverge(bed.access(AccessKind::kRead, kGva, mmio), DivergenceClass::kWrongMmio,
                 "virtual-29");
  const Outcome ram = bed.fresh(AccessKind::kRead, kGva);
  EXPECT_EQ(ram.value, seed_word(0x1000'0000));
  expect_agree(bed.access(AccessKind::kRead, kGva, ram));
  Op remove;
  remove.verb = Verb::kSlotDelete;
  remove.slot = 1;
  expect_agree(bed.step(remove, Outcome{}));
  expect_diverge(bed.access(AccessKind::kRead, kGva, ram), DivergenceClass::kWrongMmio,
                 "virtual-29");
}

TEST_P(Access, WriteToReadOnlySlotIsMmioAndReadIsNot) {
  const std::uint64_t rom = std::uint64_t{1} << 32;
  Op add;
  add.verb = Verb::kSlotAdd;
  add.slot = 1, add.gpa = rom, add.pages = 1, add.hva = kHvaBase + 0x1000'0000,
  add.flags = slot_flag::kReadOnly;
  expect_agree(bed.step(add, Outcome{}));
  bed.spec.write_word(Testbed::entry_gpa(kGva, 1), rom | kPwua);
  EXPECT_EQ(bed.fresh(AccessKind::kRead, kGva).kind, OutcomeKind::kOk);
  EXPECT_EQ(bed.fresh(AccessKind::kWrite, kGva).kind, OutcomeKind::kMmio);
  expect_agree(bed.access_fresh(AccessKind::kWrite, kGva));
  EXPECT_TRUE(bed.spec.read_word(Testbed::entry_gpa(kGva, 1)) & pte::kD)
      << "an exit to the device completes the access";
}

TEST_P(Access, TableWithoutMemoryIsUnspecified) {
  bed.spec.write_word(Testbed::entry_gpa(kGva, 2), (std::uint64_t{1} << 32) | kPwua);
  const Verdict v = bed.access(AccessKind::kRead, kGva, bed.fault(kGva, 0));
  EXPECT_EQ(v.kind, VerdictKind::kUnspecified);
  EXPECT_EQ(v.rule->id, "table-mmio");
  EXPECT_EQ(bed.access(AccessKind::kRead, kGva, bed.fault(kGva, pfec::kP | pfec::kRsvd)).kind,
            VerdictKind::kUnspecified);
  EXPECT_EQ(bed.access(AccessKind::kRead, kGva, bed.fault(kGva, pfec::kP)).kind,
            VerdictKind::kDiverge);
  EXPECT_EQ(bed.access(AccessKind::kRead, kGva, bed.through(AccessKind::kRead, kGva, kFrame)).kind,
            VerdictKind::kDiverge);
}

TEST_P(Access, WhatAReadOnlyTableShowsOfItsOwnAccessedBitIsUnspecified) {
  const std::uint64_t rom = std::uint64_t{1} << 32, entry = Testbed::entry_gpa(kGva, 1);
  Op add;
  add.verb = Verb::kSlotAdd;
  add.slot = 1, add.gpa = rom, add.pages = 1, add.hva = kHvaBase + Testbed::kPt,
  add.flags = slot_flag::kReadOnly;
  expect_agree(bed.step(add, Outcome{}));
  bed.spec.write_word(Testbed::entry_gpa(kGva, 2), rom | kPwua);
  bed.spec.write_word(entry, rom | kPwu);  // the page is its own table
  const std::uint64_t gva = (kGva & ~std::uint64_t{0xfff}) + entry % 0x1000;
  for (const std::uint64_t flags : {kPwu, kPwua, kPwu | pte::kG}) {
    Outcome got = bed.fresh(AccessKind::kRead, gva);
    got.value = rom | flags;
    bed.fill_path(gva, got.path[0]);
    EXPECT_EQ(bed.access(AccessKind::kRead, gva, got).kind,
              (flags & pte::kG) ? VerdictKind::kDiverge : VerdictKind::kUnspecified);
  }
}

TEST_P(Access, LoadOfAnEntryOfItsOwnPathSeesTheAccessedBit) {
  // Root entry 511 refers to the root: the last page of the address space is the root table.
  const std::uint64_t entry = Testbed::kRoot + 511 * 8;
  bed.spec.write_word(entry, Testbed::kRoot | kPwu);
  const std::uint64_t self = 0xffff'ffff'ffff'f000 + 8 * 511;
  const Outcome o = bed.fresh(AccessKind::kRead, self);
  EXPECT_EQ(o.gpa[0], entry);
  EXPECT_EQ(o.value, Testbed::kRoot | kPwua) << "the walk sets A before the load reads";
  expect_agree(bed.access(AccessKind::kRead, self, o));
}

TEST_P(Access, StoreToAnEntryOfItsOwnPathShowsInThePath) {
  // The leaf of kGva maps the table that holds it.
  const std::uint64_t leaf = Testbed::entry_gpa(kGva, 1);
  bed.spec.write_word(leaf, Testbed::kPt | kPwu);
  const std::uint64_t gva = kGva + (leaf & 0xfff);
  Outcome o = bed.fresh(AccessKind::kWrite, gva);
  EXPECT_EQ(o.gpa[0], leaf);
  o.path[0].entry[3] = store_stamp(0);  // what the store left, P=0
  expect_agree(bed.access(AccessKind::kWrite, gva, o));
  EXPECT_EQ(bed.spec.read_word(leaf), store_stamp(0));
}

TEST_P(Access, WrongEntryAfterASelfStoreIsFound) {
  const std::uint64_t leaf = Testbed::entry_gpa(kGva, 1);
  bed.spec.write_word(leaf, Testbed::kPt | kPwu);
  const std::uint64_t gva = kGva + (leaf & 0xfff);
  const Outcome o = bed.fresh(AccessKind::kWrite, gva);  // the path as if nothing had been stored
  expect_diverge(bed.access(AccessKind::kWrite, gva, o), DivergenceClass::kWrongPath, "path");
}

TEST_P(Access, SkipChangesNothing) {
  Outcome o;
  o.kind = OutcomeKind::kSkip;
  o.reason = SkipReason::kVerbNotSupported;
  EXPECT_EQ(bed.access(AccessKind::kWrite, kGva, o).kind, VerdictKind::kSkip);
  EXPECT_EQ(bed.spec.read_word(kFrame), seed_word(kFrame));
}

TEST(Counters, CountFreshAgreement) {
  Testbed bed;
  bed.map(kGva, kFrame | kPwu, kPwu);
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.access_fresh(AccessKind::kWrite, kGva);
  EXPECT_EQ(bed.spec.counters().checks, 2u);
  EXPECT_EQ(bed.spec.counters().fresh, 2u);
}

TEST(Determinism, SameStepsGiveSameVerdictText) {
  Verdict first, second;
  Testbed bed;
  for (Verdict* v : {&first, &second}) {
    bed.spec.reset(Machine{}, Profile::kKvm);
    bed.map(kGva, kFrame | kPwu, kPwu);
    *v = bed.access(AccessKind::kRead, kGva, bed.fault(kGva, pfec::kP));
  }
  EXPECT_EQ(first.got, second.got);
  EXPECT_EQ(first.allowed, second.allowed);
  EXPECT_EQ(first.rule, second.rule);
}

}  // namespace
}  // namespace twinwalk::oracle
