// SMM's address space, INIT, CPUID, vCPUs made anew, INVLPGA, registers read.

#include <gtest/gtest.h>

#include "harness/trace/schema.h"
#include "oracle/mode_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000, kFrame = 0x40'0000, kOther = 0x41'0000;
constexpr std::uint64_t kSmram = kHvaBase + (std::uint64_t{1} << 31);

Outcome ended(OutcomeKind kind, std::uint64_t value = 0) {
  Outcome o;
  o.kind = kind;
  o.value = value;
  return o;
}
Outcome done() { return ended(OutcomeKind::kDone); }
Outcome refused() { return ended(OutcomeKind::kRefused); }

Op op_of(Verb verb, std::initializer_list<std::pair<Field, std::uint64_t>> fields,
         unsigned vcpu = 0) {
  Op op = make_op(verb);
  op.vcpu = static_cast<std::uint8_t>(vcpu);
  for (const auto& [field, value] : fields) set(op, field, value);
  return op;
}

Op smm(bool enter, unsigned vcpu = 0) {
  return op_of(Verb::kSmm, {{Field::kValue, enter ? 1u : 0u}}, vcpu);
}
Op slot_delete(std::uint64_t space, std::uint64_t slot) {
  return op_of(Verb::kSlotDelete, {{Field::kSlot, slot}, {Field::kSpace, space}});
}
Op slot_add(std::uint64_t space, std::uint64_t slot, std::uint64_t gpa, std::uint64_t pages,
            std::uint64_t hva, std::uint64_t flags = 0) {
  return op_of(Verb::kSlotAdd, {{Field::kSlot, slot},
                                {Field::kGpa, gpa},
                                {Field::kPages, pages},
                                {Field::kHva, hva},
                                {Field::kFlags, flags},
                                {Field::kSpace, space}});
}
Op get(Reg reg) { return op_of(Verb::kGet, {{Field::kKind, static_cast<std::uint64_t>(reg)}}); }
Op cpuid(std::uint64_t features) { return op_of(Verb::kCpuid, {{Field::kFlags, features}}); }
Op width(std::uint64_t bits) { return op_of(Verb::kCpuid, {{Field::kValue, bits}}); }

Machine two_vcpus() {
  Machine m;
  m.vcpus = 2;
  return m;
}

class Events : public ::testing::Test {
 protected:
  explicit Events(const Machine& machine = two_vcpus()) : bed_(machine) {
    bed_.map(kGva, kFrame | kLeafUsed);
  }
  std::string step(const Op& op, const Outcome& got = done()) { return says(bed_.step(op, got)); }
  std::string read_fresh() { return bed_.access_ok(AccessKind::kRead, kGva); }
  std::string fresh() { return bed_.fresh_text(AccessKind::kRead, kGva); }
  // SMM sees its own frame, and its own only, at kFrame.
  void smram_over_frame() {
    EXPECT_EQ(step(slot_delete(1, 0)), "ok");
    EXPECT_EQ(step(slot_add(1, 0, 0, kFrame / 4096, kHvaBase)), "ok");
    EXPECT_EQ(step(slot_add(1, 1, kFrame, 1, kSmram)), "ok");
  }
  ModeBed bed_;
};

class AmdEvents : public Events {
 protected:
  AmdEvents() : Events(amd()) {}
  static Machine amd() {
    Machine m;
    m.vendor = Vendor::kAmd;
    m.features |= feature::kSvm;
    return m;
  }
  void svme() {
    EXPECT_EQ(says(bed_.mov(Reg::kEfer, bed_.spec.registers(0).efer | efer::kSvme)), "ok");
  }
};

// ---- SMM

TEST_F(Events, BothSpacesStartAlike) {
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_TRUE(bed_.spec.in_smm(0));
  EXPECT_EQ(read_fresh(), "ok");
}

TEST_F(Events, SlotsAreOfTheirSpace) {
  EXPECT_EQ(step(slot_add(1, 3, 0x1'0000'0000, 1, kSmram)), "ok");
  EXPECT_EQ(step(slot_add(0, 3, 0x1'0000'0000, 1, kSmram)), "ok");
  EXPECT_EQ(step(slot_add(1, 4, 0x1'0000'0000, 1, kSmram), refused()), "ok");
  EXPECT_EQ(step(slot_delete(0, 3)), "ok");
  EXPECT_EQ(step(slot_delete(0, 3), refused()), "ok");
  EXPECT_EQ(step(slot_delete(1, 3)), "ok");
}

TEST_F(Events, OneByteForSmmAnotherForTheRest) {
  smram_over_frame();
  const Outcome outside = bed_.fresh(AccessKind::kRead, kGva);
  EXPECT_EQ(step(smm(true)), "ok");
  const Outcome inside = bed_.fresh(AccessKind::kRead, kGva);
  EXPECT_NE(outside.value, inside.value);
  EXPECT_EQ(says(bed_.access(AccessKind::kRead, kGva, outside)), "wrong-value/data");
  EXPECT_EQ(says(bed_.access(AccessKind::kRead, kGva, inside)), "ok");
  EXPECT_EQ(step(smm(false)), "ok");
  EXPECT_EQ(says(bed_.access(AccessKind::kRead, kGva, outside)), "ok");
}

TEST_F(Events, TheOtherVcpuIsNotInSmm) {
  smram_over_frame();
  const Outcome outside = bed_.fresh(AccessKind::kRead, kGva);
  EXPECT_EQ(step(smm(true, 1)), "ok");
  EXPECT_EQ(says(bed_.access(AccessKind::kRead, kGva, outside)), "ok");
  EXPECT_NE(says(bed_.access(AccessKind::kRead, kGva, outside, 1)), "ok");
}

TEST_F(Events, TablesOutsideMemoryInSmm) {
  EXPECT_EQ(step(slot_delete(1, 0)), "ok");
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_EQ(
      says(bed_.access(AccessKind::kRead, kGva, bed_.through(AccessKind::kRead, kGva, kFrame))),
      "missed-fault/table-mmio");
  EXPECT_EQ(step(smm(false)), "ok");
  EXPECT_EQ(read_fresh(), "ok");
}

// An entry changed by the guest without invalidation: the old translation may be used, until SMI.
TEST_F(Events, NothingCachedGoesIntoSmm) {
  const Outcome old = bed_.through(AccessKind::kRead, kGva, kFrame);
  bed_.access(AccessKind::kRead, kGva, old);
  EXPECT_EQ(says(bed_.store_entry(kGva, 1, kOther | kLeafUsed)), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "ok") << "not yet invalidated";
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_EQ(step(smm(false)), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "stale-after-flush/smm");
}

TEST_F(Events, AnnouncedInOneSpaceOnly) {
  EXPECT_EQ(read_fresh(), "ok");
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_EQ(says(bed_.store_entry(kGva, 1, kOther | kLeafUsed)), "ok");
  EXPECT_EQ(says(bed_.invlpg(kGva)), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "stale-after-flush/stale-6");
  EXPECT_EQ(step(smm(false)), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "ok") << "by another name of the table";
  EXPECT_EQ(says(bed_.store_entry(kGva, 1, kOther | kPwua)), "ok");
  EXPECT_EQ(says(bed_.invlpg(kGva)), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "stale-after-flush/stale-6");
}

TEST_F(Events, DirtyLogOfASlotOfSmm) {
  const Op collect = op_of(Verb::kDirtyGet, {{Field::kSlot, 0}, {Field::kSpace, 1}});
  EXPECT_EQ(
      step(op_of(Verb::kSlotFlags,
                 {{Field::kSlot, 0}, {Field::kFlags, slot_flag::kLogDirty}, {Field::kSpace, 1}})),
      "ok");
  EXPECT_EQ(bed_.access_ok(AccessKind::kWrite, kGva), "ok");
  EXPECT_EQ(step(collect), "ok") << "written outside SMM";
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_EQ(bed_.access_ok(AccessKind::kWrite, kGva), "ok");
  EXPECT_EQ(step(collect), "lost-dirty-log/virtual-28");
}

TEST_F(Events, SmiInSmmDoesNothing) {
  EXPECT_EQ(step(smm(false)), "ok");
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_EQ(step(smm(true), ended(OutcomeKind::kUd)), "wrong-exception/smm");
}

// ---- INIT

TEST_F(Events, RegistersAfterInit) {
  EXPECT_EQ(step(op_of(Verb::kInit, {})), "ok");
  EXPECT_EQ(step(get(Reg::kCr0), ended(OutcomeKind::kOk, cr0::kEt)), "ok");
  EXPECT_EQ(step(get(Reg::kCr3), ended(OutcomeKind::kOk, 0)), "ok");
  EXPECT_EQ(step(get(Reg::kCr4), ended(OutcomeKind::kOk, 0)), "ok");
  EXPECT_EQ(step(get(Reg::kEfer), ended(OutcomeKind::kOk, 0)), "ok");
}

TEST_F(Events, ResetSetsCachingInitKeepsIt) {
  constexpr std::uint64_t kReset = cr0::kEt | cr0::kCd | cr0::kNw;
  EXPECT_EQ(step(op_of(Verb::kInit, {{Field::kType, 1}})), "ok");
  EXPECT_EQ(step(get(Reg::kCr0), ended(OutcomeKind::kOk, kReset)), "ok");
  EXPECT_EQ(step(op_of(Verb::kInit, {})), "ok");
  EXPECT_EQ(step(get(Reg::kCr0), ended(OutcomeKind::kOk, kReset)), "ok");
}

TEST_F(Events, WithoutPagingAfterInit) {
  EXPECT_EQ(read_fresh(), "ok");
  const Outcome translated = bed_.through(AccessKind::kRead, kGva, kFrame);
  EXPECT_EQ(step(op_of(Verb::kInit, {})), "ok");
  EXPECT_EQ(fresh(), "ok gpa=0x5000");
  EXPECT_NE(says(bed_.access(AccessKind::kRead, kGva, translated)), "ok") << "W17";
}

TEST_F(Events, InitEndsSmm) {
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_EQ(step(op_of(Verb::kInit, {})), "ok");
  EXPECT_FALSE(bed_.spec.in_smm(0));
}

// ---- capabilities

TEST_F(Events, NarrowerAddressesMakeBitsReserved) {
  EXPECT_EQ(says(bed_.store_entry(kGva, 1, (std::uint64_t{1} << 38) | kLeafUsed)), "ok");
  EXPECT_EQ(fresh(), "mmio read gpa=0x4000000000");
  EXPECT_EQ(step(width(38)), "ok");
  EXPECT_EQ(fresh(), "#PF ec=p|rsvd cr2=0x5000");
  EXPECT_EQ(step(width(40)), "ok");
  EXPECT_EQ(fresh(), "mmio read gpa=0x4000000000");
}

TEST_F(Events, WithoutLargestPagesTheirBitIsReserved) {
  bed_.put(kGva, 3, pte::kPs | kLeafUsed);
  EXPECT_EQ(fresh().substr(0, 2), "ok");
  EXPECT_EQ(step(cpuid(feature::kUsual & ~feature::k1G)), "ok");
  EXPECT_EQ(fresh(), "#PF ec=p|rsvd cr2=0x5000");
}

TEST_F(Events, WhatIsInUseDoesNotGo) {
  EXPECT_EQ(step(cpuid(feature::kUsual & ~feature::kNx), refused()), "ok") << "EFER.NXE";
  EXPECT_EQ(step(cpuid(feature::kUsual & ~feature::kPae), refused()), "ok");
  EXPECT_EQ(step(cpuid(feature::kUsual & ~feature::kNx), done()), "wrong-exception/cpuid");
  EXPECT_EQ(step(width(47), refused()), "ok") << "the host has 46";
  Op other = op_of(Verb::kMov, {{Field::kKind, 1}, {Field::kValue, bit(38)}}, 1);
  EXPECT_EQ(step(other), "ok");
  EXPECT_EQ(step(width(38), refused()), "ok") << "another vCPU's CR3";
  EXPECT_EQ(step(width(39)), "ok");
  EXPECT_EQ(step(cpuid(feature::kUsual & ~feature::kPcid)), "ok");
  EXPECT_EQ(says(bed_.mov(Reg::kCr4, cr4::kPae | cr4::kPcide, OutcomeKind::kGp)), "ok");
}

TEST_F(Events, RequestsAreHeldAgainstTheNewWidth) {
  EXPECT_EQ(step(width(36)), "ok");
  EXPECT_EQ(step(slot_add(0, 1, std::uint64_t{1} << 38, 1, kSmram), refused()), "ok");
  EXPECT_EQ(step(width(40)), "ok");
  EXPECT_EQ(step(slot_add(0, 1, std::uint64_t{1} << 38, 1, kSmram)), "ok");
}

TEST_F(Events, NothingCachedSurvivesCpuid) {
  EXPECT_EQ(read_fresh(), "ok");
  EXPECT_EQ(says(bed_.store_entry(kGva, 1, kOther | kLeafUsed)), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "ok");
  EXPECT_EQ(step(width(39)), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "stale-after-flush/cpuid");
}

// ---- a vCPU made anew

TEST_F(Events, NewVcpuStartsAsTheMachineSays) {
  EXPECT_EQ(step(smm(true)), "ok");
  EXPECT_EQ(says(bed_.mov(Reg::kCr3, 0x200000)), "ok");
  EXPECT_EQ(step(op_of(Verb::kNewVcpu, {})), "ok");
  EXPECT_FALSE(bed_.spec.in_smm(0));
  EXPECT_EQ(step(get(Reg::kCr3), ended(OutcomeKind::kOk, kInitialCr3)), "ok");
  EXPECT_EQ(read_fresh(), "ok");
}

TEST_F(Events, NewVcpuHasNoTlb) {
  EXPECT_EQ(read_fresh(), "ok");
  EXPECT_EQ(says(bed_.store_entry(kGva, 1, kOther | kLeafUsed)), "ok");
  EXPECT_EQ(step(op_of(Verb::kNewVcpu, {})), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "stale-after-flush/new-vcpu");
}

TEST(NewVcpu, LatchesPdptesAsTheyAreNow) {
  ModeBed bed(Mode::kPae);
  bed.map_at(kGva, 1, kFrame | kLeafUsed);
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  bed.put(kGva, 3, bed.table(2) | pte::kP | pte::kW);  // reserved: nothing can fault
  EXPECT_EQ(says(bed.step(op_of(Verb::kNewVcpu, {}), done())), "ok");
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, kGva), "#PF ec=0 cr2=0x5000");
}

TEST(NewVcpu, LatchesPdptesOutsideSmm) {
  ModeBed bed(Mode::kPae);
  bed.map_at(kGva, 1, kFrame | kLeafUsed);
  EXPECT_EQ(says(bed.step(slot_delete(1, 0), done())), "ok");
  EXPECT_EQ(says(bed.step(smm(true), done())), "ok");
  EXPECT_EQ(says(bed.step(op_of(Verb::kNewVcpu, {}), done())), "ok");
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok") << "SMM's memory has no PDPTEs";
}

TEST(Cpuid, LatchedPdptesForbidIt) {
  ModeBed bed(Mode::kPae);
  bed.map_at(kGva, 1, kFrame | kLeafUsed);
  bed.put(kGva, 3, (std::uint64_t{1} << 38) | pte::kP);
  EXPECT_EQ(says(bed.load_pdptes()), "ok");
  EXPECT_EQ(says(bed.step(width(38), refused())), "ok");
  EXPECT_EQ(says(bed.step(width(39), done())), "ok");
}

// ---- INVLPGA, registers

TEST_F(Events, InvlpgaIsAmds) {
  const Op op = op_of(Verb::kInvlpga, {{Field::kGva, kGva}, {Field::kValue, 0}});
  EXPECT_EQ(step(op, ended(OutcomeKind::kUd)), "ok");
  EXPECT_EQ(step(op, done()), "wrong-exception/invlpga");
}

TEST_F(AmdEvents, InvlpgaOfAsid0IsInvlpg) {
  const auto invlpga = [&](std::uint64_t asid, OutcomeKind got) {
    return step(op_of(Verb::kInvlpga, {{Field::kGva, kGva}, {Field::kValue, asid}}), ended(got));
  };
  EXPECT_EQ(invlpga(0, OutcomeKind::kUd), "ok");
  svme();
  EXPECT_EQ(read_fresh(), "ok");
  EXPECT_EQ(says(bed_.store_entry(kGva, 1, kOther | kLeafUsed)), "ok");
  EXPECT_EQ(invlpga(7, OutcomeKind::kDone), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "ok") << "another guest's";
  EXPECT_EQ(invlpga(0, OutcomeKind::kDone), "ok");
  EXPECT_EQ(bed_.read_through(kGva, kFrame), "stale-after-flush/stale-6");
}

TEST_F(AmdEvents, SvmStaysWhileItIsOn) {
  svme();
  const std::uint64_t without = bed_.spec.machine().features & ~feature::kSvm;
  EXPECT_EQ(step(cpuid(without), refused()), "ok");
}

TEST_F(Events, Cr3IsReadAsTheGuestSeesIt) {
  EXPECT_EQ(says(bed_.mov(Reg::kCr4, cr4::kPae | cr4::kPcide)), "ok");
  EXPECT_EQ(says(bed_.mov(Reg::kCr3, cr3::kNoFlush | kInitialCr3 | 5)), "ok");
  EXPECT_EQ(step(get(Reg::kCr3), ended(OutcomeKind::kOk, kInitialCr3 | 5)), "ok") << "W25";
  EXPECT_EQ(step(get(Reg::kCr3), ended(OutcomeKind::kOk, kInitialCr3)), "wrong-register/get");
  EXPECT_EQ(step(get(Reg::kCr3), ended(OutcomeKind::kGp)), "wrong-exception/get");
}

TEST_F(Events, PkruIsThereWithPke) {
  Outcome skip = ended(OutcomeKind::kSkip);
  skip.reason = SkipReason::kFeatureNotSupported;
  EXPECT_EQ(step(get(Reg::kPkru), ended(OutcomeKind::kOk)), "wrong-exception/get");
  EXPECT_EQ(says(bed_.mov(Reg::kCr4, cr4::kPae | cr4::kPke)), "ok");
  EXPECT_EQ(says(bed_.mov(Reg::kPkru, 0x55)), "ok");
  EXPECT_EQ(step(get(Reg::kPkru), ended(OutcomeKind::kOk, 0x55)), "ok");
}

}  // namespace
}  // namespace twinwalk::oracle
