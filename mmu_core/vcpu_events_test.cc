// INIT, RESET, other capabilities, a vCPU made anew, INVLPGA.

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kUsed;
using testing::Outcome;
using testing::page_fault;

constexpr Gva kVa{0x1234'5660'0000};
constexpr Gva k1G{u64{3} << 39};
constexpr Gpa kPage{0x40'0000}, kOther{0x41'0000};
constexpr u64 kAfterReset = cr0::kCd | cr0::kNw | cr0::kEt;

class VcpuEvents : public ::testing::Test {
 protected:
  VcpuEvents() : VcpuEvents(Capabilities{}) {}
  explicit VcpuEvents(const Capabilities& caps) : guest_(config(caps)) { guest_.map(kVa, kPage); }
  static VmConfig config(const Capabilities& caps) {
    VmConfig c;
    c.caps = caps;
    c.vcpus = 2;
    return c;
  }
  Status cpuid(const Capabilities& caps) {
    const Status s = guest_.vm().set_cpuid(caps);
    guest_.audit();
    return s;
  }
  static Status recreate(Guest& guest, const PagingMode& mode) {
    Sregs s = guest.sregs(mode);
    s.cr3 = guest.root().raw;
    const Status status = guest.vm().recreate_vcpu(0, s);
    guest.audit();
    return status;
  }
  // Two roots are cached, of which the second one, that maps kVa to kOther, is in use.
  void use_two_roots() {
    const Gpa other = guest_.new_table();
    guest_.map(other, kVa, kOther);
    guest_.read(kVa);
    ASSERT_TRUE(guest_.cpu().set_cr3(other.raw));
    guest_.read(kVa);
  }
  void init_after_use() {
    guest_.read(kVa);
    guest_.cpu().init(false);
  }
  static Capabilities without_1g() {
    Capabilities caps;
    caps.gbpages = false;
    return caps;
  }
  void map_1g() { guest_.map(k1G, Gpa{}, kUsed, 3); }
  Guest guest_;
};

class AmdVcpuEvents : public VcpuEvents {
 protected:
  AmdVcpuEvents() : VcpuEvents(caps()) {}
  static Capabilities caps() {
    Capabilities c;
    c.vendor = Vendor::kAmd;
    c.svm = true;
    return c;
  }
};

TEST_F(VcpuEvents, InitTurnsPagingOff) {
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  guest_.cpu().init(false);
  guest_.enter_mode(kNoPaging);
  EXPECT_EQ(guest_.read(Gva{kPage.raw}), guest_.reaches(kPage));
}

TEST_F(VcpuEvents, RegistersAfterInit) {
  Vcpu& cpu = guest_.cpu();
  cpu.set_pkru(5);
  cpu.init(false);
  guest_.audit();
  EXPECT_EQ(cpu.cr0(), cr0::kEt) << "CD and NW were 0";
  EXPECT_EQ(cpu.cr3(), 0u);
  EXPECT_EQ(cpu.cr4(), 0u);
  EXPECT_EQ(cpu.efer(), 0u);
  EXPECT_EQ(cpu.pkru(), 5u);
}

TEST_F(VcpuEvents, RegistersAfterReset) {
  Vcpu& cpu = guest_.cpu();
  cpu.set_pkru(5);
  cpu.init(true);
  guest_.audit();
  EXPECT_EQ(cpu.cr0(), kAfterReset);
  EXPECT_EQ(cpu.pkru(), 0u);
  cpu.init(false);
  EXPECT_EQ(cpu.cr0(), kAfterReset) << "INIT keeps CD and NW";
}

// What hangs below the cached roots must not come back with them.
TEST_F(VcpuEvents, InitLetsGoOfEveryRoot) {
  use_two_roots();
  guest_.platform.flushes.clear();
  guest_.cpu().init(false);
  guest_.audit();
  EXPECT_FALSE(guest_.platform.flushes.empty());
  guest_.vm().zap_all();
  guest_.audit();
  guest_.enter_mode(k4Level);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(VcpuEvents, InitEndsSmm) {
  ASSERT_TRUE(guest_.cpu().set_smm(true));
  guest_.cpu().init(false);
  guest_.audit();
  EXPECT_FALSE(guest_.cpu().smm());
}

// A fault that was on its way when the roots went (KVM: "handle invalid root_hpa everywhere").
TEST_F(VcpuEvents, FaultWithoutARoot) {
  init_after_use();
  const FaultResult r = guest_.cpu().handle_fault(Gva{kPage.raw}, 0, false);
  EXPECT_EQ(r.kind, FaultResult::Kind::kRetry);
  guest_.audit();
  guest_.enter_mode(kNoPaging);
  EXPECT_EQ(guest_.read(Gva{kPage.raw}), guest_.reaches(kPage));
}

TEST_F(VcpuEvents, EmulationWithoutARoot) {
  init_after_use();
  const EmulateResult r = guest_.cpu().emulate(Gva{kPage.raw}, Access::kRead, 8, 0, false);
  EXPECT_EQ(r.kind, EmulateResult::Kind::kDone);
  EXPECT_EQ(r.gpa, kPage);
  guest_.audit();
}

TEST_F(VcpuEvents, NarrowerAddressesMakeBitsReserved) {
  constexpr Gpa kHigh{u64{1} << 38};
  guest_.add_slot(1, Gfn::of(kHigh), 16, testing::kMemory + (u64{1} << 34));
  guest_.map(kVa, kHigh);
  EXPECT_EQ(guest_.read(kVa).kind, Outcome::Kind::kOk);
  Capabilities narrow;
  narrow.maxphyaddr = 36;
  ASSERT_EQ(cpuid(narrow), Status::kOk);
  EXPECT_EQ(guest_.read(kVa), page_fault(pfec::kP | pfec::kRsvd));
  ASSERT_EQ(cpuid(Capabilities{}), Status::kOk);
  EXPECT_EQ(guest_.read(kVa).kind, Outcome::Kind::kOk);
}

TEST_F(VcpuEvents, WithoutLargestPagesTheirBitIsReserved) {
  map_1g();
  EXPECT_EQ(guest_.read(k1G), guest_.reaches(Gpa{}));
  ASSERT_EQ(cpuid(without_1g()), Status::kOk);
  EXPECT_EQ(guest_.read(k1G), page_fault(pfec::kP | pfec::kRsvd));
}

TEST_F(VcpuEvents, CpuidReachesEveryVcpu) {
  map_1g();
  guest_.enter_mode(k4Level, 1);
  EXPECT_EQ(guest_.read(k1G, 1), guest_.reaches(Gpa{}));
  ASSERT_EQ(cpuid(without_1g()), Status::kOk);
  EXPECT_EQ(guest_.read(k1G, 1), page_fault(pfec::kP | pfec::kRsvd));
}

TEST_F(VcpuEvents, CpuidThatWouldMakeRegistersImpossible) {
  Capabilities wide;
  wide.maxphyaddr = static_cast<u8>(wide.host_maxphyaddr + 1);
  EXPECT_EQ(cpuid(wide), Status::kInvalid);
  Capabilities caps;
  caps.nx = false;  // EFER.NXE is 1
  EXPECT_EQ(cpuid(caps), Status::kInvalid);
  caps = {};
  caps.pae = false;
  EXPECT_EQ(cpuid(caps), Status::kInvalid);
  ASSERT_TRUE(guest_.cpu(1).set_cr3(u64{1} << 38));
  caps = {};
  caps.maxphyaddr = 38;
  EXPECT_EQ(cpuid(caps), Status::kInvalid) << "another vCPU's CR3";
  caps.maxphyaddr = 39;
  EXPECT_EQ(cpuid(caps), Status::kOk);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(VcpuEvents, CpuidThatLatchedPdptesForbid) {
  guest_.enter_mode(kPae);
  guest_.host_store(guest_.root(), (u64{1} << 38) | pte::kP);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw));
  Capabilities narrow;
  narrow.maxphyaddr = 38;
  EXPECT_EQ(cpuid(narrow), Status::kInvalid);
  guest_.host_store(guest_.root(), 0);
  EXPECT_EQ(cpuid(narrow), Status::kInvalid) << "still latched";
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw));
  EXPECT_EQ(cpuid(narrow), Status::kOk);
}

TEST_F(VcpuEvents, NewVcpuHasNothingOfTheOld) {
  use_two_roots();
  ASSERT_TRUE(guest_.cpu().set_smm(true));
  guest_.vm().zap_all();  // leaves a request behind
  EXPECT_EQ(recreate(guest_, k4Level), Status::kOk);
  EXPECT_FALSE(guest_.cpu().smm());
  EXPECT_EQ(guest_.cpu().cr3(), guest_.root().raw);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(VcpuEvents, NewVcpuFromEveryMode) {
  for (const PagingMode* mode : {&kNoPaging, &k32Bit, &kPae, &k4Level, &k5Level}) {
    VmConfig c = config(Capabilities{});
    c.caps.la57 = true;
    c.host_levels = 5;
    Guest guest(*mode, c);
    const Gva gva{0x40'0000};
    if (mode != &kNoPaging) guest.map(gva, kPage);
    EXPECT_EQ(guest.read(gva, 0), guest.reaches(kPage)) << mode->levels;
    EXPECT_EQ(guest.read(gva, 1), guest.reaches(kPage)) << mode->levels;
    EXPECT_EQ(recreate(guest, *mode), Status::kOk);
    EXPECT_EQ(guest.read(gva, 1), guest.reaches(kPage)) << "the other one goes on";
    EXPECT_EQ(guest.read(gva, 0), guest.reaches(kPage)) << mode->levels;
  }
}

TEST_F(VcpuEvents, NewVcpuLatchesNoReservedPdpte) {
  Guest guest(kPae, config(Capabilities{}));
  const Gva gva{0x40'0000};
  guest.map(gva, kPage);
  EXPECT_EQ(guest.read(gva), guest.reaches(kPage));
  guest.host_store(guest.entry(gva, 3), guest.load(guest.entry(gva, 3)) | pte::kW);
  EXPECT_EQ(recreate(guest, kPae), Status::kOk);
  EXPECT_EQ(guest.read(gva), page_fault(0));
}

TEST_F(VcpuEvents, NewVcpuWithImpossibleRegisters) {
  Sregs s = guest_.sregs(k4Level);
  s.cr4 = 0;
  EXPECT_EQ(guest_.vm().recreate_vcpu(0, s), Status::kInvalid);
  guest_.audit();
}

TEST_F(VcpuEvents, InvlpgaIsAmds) {
  EXPECT_FALSE(guest_.cpu().set_efer(guest_.cpu().efer() | efer::kSvme));
  EXPECT_FALSE(guest_.cpu().invlpga(kVa, 0));
}

TEST_F(AmdVcpuEvents, InvlpgaNeedsSvme) {
  EXPECT_FALSE(guest_.cpu().invlpga(kVa, 0));
  ASSERT_TRUE(guest_.cpu().set_efer(guest_.cpu().efer() | efer::kSvme));
  EXPECT_TRUE(guest_.cpu().invlpga(kVa, 0));
}

TEST_F(AmdVcpuEvents, InvlpgaOfTheHostsAsidIsInvlpg) {
  const Gva window{0x7000'0000};
  guest_.map(window, guest_.table_of(kVa));
  const Gva at{window.raw | (guest_.entry(kVa, 1).raw & (kPageSize - 1))};
  ASSERT_TRUE(guest_.cpu().set_efer(guest_.cpu().efer() | efer::kSvme));
  guest_.read(kVa);
  guest_.write(at, kOther.raw | kUsed);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage)) << "not yet invalidated";
  ASSERT_TRUE(guest_.cpu().invlpga(kVa, 1));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage)) << "another guest's";
  ASSERT_TRUE(guest_.cpu().invlpga(kVa, 0));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(AmdVcpuEvents, CpuidWithoutSvmWhileItIsOn) {
  Capabilities without = caps();
  without.svm = false;
  ASSERT_TRUE(guest_.cpu().set_efer(guest_.cpu().efer() | efer::kSvme));
  EXPECT_EQ(cpuid(without), Status::kInvalid);
  ASSERT_TRUE(guest_.cpu().set_efer(guest_.cpu().efer() & ~efer::kSvme));
  EXPECT_EQ(cpuid(without), Status::kOk);
  EXPECT_FALSE(guest_.cpu().set_efer(guest_.cpu().efer() | efer::kSvme));
}

}  // namespace
}  // namespace mmu
