// PAE's PDPTEs: registers that are loaded (Intel), or entries that are read on demand (AMD).
// SDM 3A §"PDPTE Registers"; APM 2 §"Legacy PAE Paging".

#include <gtest/gtest.h>

#include "oracle/mode_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000, kOther = 0x6000;
constexpr std::uint64_t kOld = 0x400000, kNew = 0x600000;
constexpr std::uint64_t kSecondPd = 0x110000, kSecondPt = 0x111000;

// One PDPTE leads to kOld; tables beside it, reached by another PDPTE, lead to kNew.
class Pae : public ::testing::TestWithParam<Profile> {
 protected:
  explicit Pae(Vendor vendor = Vendor::kIntel) : bed(Mode::kPae, GetParam(), vendor) {}
  ModeBed bed;
  const std::uint64_t pdpte = bed.at(kGva, 3);

  void SetUp() override {
    bed.spec.write_word(kSecondPd, kSecondPt | kPwua);
    bed.spec.write_word(kSecondPt + 5 * 8, kNew | kLeafUsed);
    bed.spec.write_word(kSecondPt + 6 * 8, kNew | 0x1000 | kLeafUsed);
    bed.map_at(kGva, 1, kOld | kLeafUsed);
    bed.put(kOther, 1, kOld | 0x1000 | kLeafUsed);
    ASSERT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
    ASSERT_EQ(bed.access_ok(AccessKind::kRead, kOther), "ok");
    bed.mov(Reg::kAc, 1);  // SMAP comes and goes below
  }
  void point_elsewhere() { bed.write(pdpte, kSecondPd | pte::kP); }
  std::string old_read(std::uint64_t gva = kGva) {
    return bed.read_through(gva, kOld | (gva - kGva));
  }
  std::string new_read(std::uint64_t gva = kGva) {
    return bed.read_through(gva, kNew | (gva - kGva));
  }
  std::uint64_t fresh_gpa() const { return bed.fresh(AccessKind::kRead, kGva).gpa[0]; }
};
INSTANTIATE_TEST_SUITE_P(Profiles, Pae, ::testing::Values(Profile::kKvm, Profile::kArchitecture),
                         [](const auto& p) { return std::string(name_of(p.param)); });

TEST_P(Pae, TheRegisterIsUsedUntilItIsLoadedAgain) {
  point_elsewhere();
  EXPECT_EQ(fresh_gpa(), kOld);
  EXPECT_EQ(old_read(), "ok");
  EXPECT_EQ(new_read(), "wrong-frame/pdpte") << "visible before it was loaded";
  bed.invlpg(kGva);
  EXPECT_EQ(old_read(), "ok") << "INVLPG loads nothing";
  EXPECT_EQ(says(bed.load_pdptes()), "ok");
  EXPECT_EQ(fresh_gpa(), kNew);
  EXPECT_EQ(new_read(), "ok");
  EXPECT_EQ(old_read(), "stale-after-flush/stale-8");
}

TEST_P(Pae, APresentBitIsLatchedToo) {
  bed.write(pdpte, 0);
  EXPECT_EQ(old_read(), "ok");
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.fault(kGva, 0))), "spurious-fault/pdpte");
  bed.load_pdptes();
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, kGva), "#PF ec=0 cr2=0x5000");
  bed.write(pdpte, bed.upper(3));
  EXPECT_EQ(bed.fresh(AccessKind::kRead, kGva).kind, OutcomeKind::kPageFault);
  EXPECT_EQ(old_read(), "stale-after-flush/stale-8");
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
}

// What loads is in registers_test.cc, bit by bit; here that it is done, and what it flushes.
TEST_P(Pae, EachLoadingWriteLoads) {
  const struct {
    Reg reg;
    std::uint64_t flips;
    bool loads, flushes;
  } rows[] = {
      {Reg::kCr0, cr0::kCd, true, false},     {Reg::kCr0, cr0::kWp, false, false},
      {Reg::kCr4, cr4::kPge, true, true},     {Reg::kCr4, cr4::kPse, true, true},
      {Reg::kCr4, cr4::kSmap, false, false},  {Reg::kCr4, cr4::kPke, false, false},
      {Reg::kCr4, cr4::kMce, false, false},   {Reg::kCr4, cr4::kLa57, false, false},
      {Reg::kEfer, efer::kNxe, false, false},
  };
  for (const auto& row : rows) {
    bed.write(pdpte, bed.upper(3));
    bed.load_pdptes();
    ASSERT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
    point_elsewhere();
    const Registers& r = bed.spec.registers(0);
    const std::uint64_t now = row.reg == Reg::kCr0 ? r.cr0 : row.reg == Reg::kCr4 ? r.cr4 : r.efer;
    ASSERT_EQ(says(bed.mov(row.reg, now ^ row.flips)), "ok");
    EXPECT_EQ(fresh_gpa(), row.loads ? kNew : kOld) << name_of(row.reg) << " " << row.flips;
    if (row.loads) {
      EXPECT_EQ(old_read(), row.flushes ? "stale-after-flush/stale-9" : "ok")
          << "PDPTEs are loaded, but a TLB may keep what it has: " << row.flips;
    }
    bed.mov(row.reg, now);
  }
}

TEST_P(Pae, LoadingAReservedBitIsGpAndChangesNothing) {
  for (const std::uint64_t reserved : {bit(1), bit(2), bit(5), bit(8), bit(40), bit(63)}) {
    // Any of the four counts.
    bed.write(Testbed::kRoot + 3 * 8, reserved | pte::kP);
    EXPECT_EQ(says(bed.mov(Reg::kCr3, Testbed::kRoot, OutcomeKind::kGp)), "ok");
    EXPECT_EQ(says(bed.mov(Reg::kCr4, bed.spec.registers(0).cr4 ^ cr4::kPge, OutcomeKind::kGp)),
              "ok");
    EXPECT_EQ(says(bed.mov(Reg::kCr0, bed.spec.registers(0).cr0 | cr0::kCd, OutcomeKind::kGp)),
              "ok");
    EXPECT_EQ(says(bed.mov(Reg::kCr4, bed.spec.registers(0).cr4 ^ cr4::kSmap)), "ok");
    EXPECT_EQ(says(bed.mov(Reg::kCr3, Testbed::kRoot)), "wrong-register/pdpte");
    EXPECT_EQ(fresh_gpa(), kOld) << "the old ones are still loaded";
    bed.write(Testbed::kRoot + 3 * 8, reserved);
    EXPECT_EQ(says(bed.mov(Reg::kCr3, Testbed::kRoot)), "ok") << "P=0: not looked at";
  }
  const std::uint64_t cr3 = bed.spec.registers(0).cr3;
  bed.write(0x200000, pte::kP | bit(1));
  EXPECT_EQ(says(bed.mov(Reg::kCr3, 0x200000, OutcomeKind::kGp)), "ok");
  EXPECT_EQ(bed.spec.registers(0).cr3, cr3);
}

TEST_P(Pae, ATableWithoutMemoryIsNobodysToSay) {
  const std::uint64_t nowhere = 0xf000'0000;
  EXPECT_EQ(says(bed.mov(Reg::kCr3, nowhere, OutcomeKind::kGp)), "unspecified/table-mmio");
  EXPECT_EQ(bed.spec.registers(0).cr3, Testbed::kRoot);
  EXPECT_EQ(says(bed.mov(Reg::kCr3, nowhere)), "unspecified/table-mmio");
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, bed.fault(kGva, 0))),
            "unspecified/table-mmio");
}

TEST_P(Pae, TheRootIsAlignedTo32Bytes) {
  bed.spec.write_word(0x200fe0, kSecondPd | pte::kP);
  ASSERT_EQ(says(bed.mov(Reg::kCr3, 0x200fff)), "ok");
  EXPECT_EQ(fresh_gpa(), kNew);
}

// The path that a subject shows is a walk of memory; A and D go to where the registers lead.
TEST_P(Pae, FlagsAreSetWhereTheRegistersLead) {
  bed.put(kGva, 1, kOld | kPwu);
  point_elsewhere();
  Outcome o = bed.fresh(AccessKind::kWrite, kGva);
  EXPECT_EQ(o.gpa[0], kOld);
  EXPECT_EQ(o.path[0].entry[0], kSecondPd | pte::kP) << "the test's subject shows memory";
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, kGva, o)), "ok");
  EXPECT_EQ(bed.entry(kGva, 1), kOld | kLeafUsed);
}

TEST_P(Pae, APdpteHasNoFlags) {
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  o.path[0].entry[0] |= pte::kA;
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, o)), "wrong-path/path");
}

TEST_P(Pae, AStoreToItsOwnPdpteTakesEffectWhenItIsLoaded) {
  bed.put(kGva, 1, Testbed::kRoot | kLeafUsed);
  Outcome o = bed.fresh(AccessKind::kWrite, kGva);
  ASSERT_EQ(o.gpa[0], Testbed::kRoot);
  o.path[0] = {1, {store_stamp(4)}};  // what memory holds then is not present
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, kGva, o)), "ok");
  EXPECT_EQ(bed.fresh(AccessKind::kRead, kGva).gpa[0], Testbed::kRoot);
  bed.load_pdptes();
  EXPECT_EQ(bed.fresh(AccessKind::kRead, kGva).kind, OutcomeKind::kPageFault);
}

TEST_P(Pae, AGlobalTranslationOutlivesTheLoad) {
  bed.mov(Reg::kCr4, bed.spec.registers(0).cr4 | cr4::kPge);
  bed.put(kGva, 1, kOld | kLeafUsed | pte::kG);
  ASSERT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  point_elsewhere();
  bed.load_pdptes();
  EXPECT_EQ(old_read(), "ok");
  EXPECT_EQ(old_read(kOther), "stale-after-flush/stale-8") << "which is not global";
  bed.invlpg(kGva);
  EXPECT_EQ(old_read(), "stale-after-flush/stale-6");
}

TEST_P(Pae, SregsLoadsAndIsRefusedForAReservedBit) {
  point_elsewhere();
  Op op;
  op.verb = Verb::kSregs;
  op.cr0 = bed.spec.registers(0).cr0;
  op.given = given_bit(Field::kCr0);
  EXPECT_EQ(says(bed.step(op, Outcome{})), "ok");
  EXPECT_EQ(fresh_gpa(), kNew);
  EXPECT_EQ(old_read(), "stale-after-flush/sregs");
  bed.write(pdpte, kSecondPd | pte::kP | pte::kU);
  Outcome refused;
  refused.kind = OutcomeKind::kRefused;
  EXPECT_EQ(says(bed.step(op, refused)), "ok");
  EXPECT_EQ(says(bed.step(op, Outcome{})), "wrong-register/pdpte");
  EXPECT_EQ(fresh_gpa(), kNew);
}

TEST(PaeStart, RegistersHoldWhatMemoryHeldAtTheStart) {
  ModeBed bed(Mode::kPae);
  bed.put(kGva, 3, bed.upper(3));
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, kGva), "#PF ec=0 cr2=0x5000");
}

class PaeAmd : public Pae {
 protected:
  PaeAmd() : Pae(Vendor::kAmd) {}
};
INSTANTIATE_TEST_SUITE_P(Profiles, PaeAmd, ::testing::Values(Profile::kKvm, Profile::kArchitecture),
                         [](const auto& p) { return std::string(name_of(p.param)); });

TEST_P(PaeAmd, IsReadOnDemandAndMayBeCachedUntilAnInvalidation) {
  point_elsewhere();
  EXPECT_EQ(fresh_gpa(), kNew);
  EXPECT_EQ(new_read(), "ok");
  EXPECT_EQ(old_read(), "ok");
  bed.invlpg(kGva);
  EXPECT_EQ(old_read(), "stale-after-flush/stale-6");
  EXPECT_EQ(new_read(), "ok");
}

TEST_P(PaeAmd, InvlpgOfAnotherPageDropsThePdpteButNotTranslations) {
  point_elsewhere();
  bed.invlpg(kGva);
  EXPECT_EQ(old_read(kOther), "ok") << "a whole translation from before";
  // A leaf that came after the INVLPG: the old PDPTE had to be walked after it.
  bed.store_entry(0x7000, 1, kOld | 0x2000 | kLeafUsed);
  EXPECT_EQ(bed.read_through(0x7000, kOld | 0x2000).substr(0, 6), "missed");
}

TEST_P(PaeAmd, AFaultDropsIt) {
  bed.write(pdpte, 0);
  EXPECT_EQ(old_read(), "ok");
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  EXPECT_EQ(old_read(), "stale-after-flush/stale-4");
}

TEST_P(PaeAmd, AReservedBitIsAFaultAtUse) {
  bed.write(Testbed::kRoot + 8, kSecondPd | pte::kP | pte::kW);
  EXPECT_EQ(says(bed.load_pdptes()), "ok");
  EXPECT_EQ(says(bed.mov(Reg::kCr3, Testbed::kRoot, OutcomeKind::kGp)), "wrong-register/mov-cr");
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok") << "another PDPTE";
  const std::uint64_t gva = bit(30) | kGva;
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, gva), "#PF ec=p|rsvd cr2=0x40005000");
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, gva), "ok");
  EXPECT_EQ(says(bed.access(AccessKind::kRead, gva, bed.fault(gva, 0))),
            "wrong-error-code/pdpte-amd");
}

TEST_P(PaeAmd, NothingIsCachedFromAReservedPdpte) {
  bed.write(pdpte, kSecondPd | pte::kP | pte::kU);
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, kGva), "#PF ec=p|rsvd cr2=0x5000");
  bed.write(pdpte, bed.upper(3));
  EXPECT_NE(new_read(), "ok");
  EXPECT_EQ(old_read(), "ok");
}

}  // namespace
}  // namespace twinwalk::oracle
