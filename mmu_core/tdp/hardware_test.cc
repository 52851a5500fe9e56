#include "mmu_core/tdp/hardware.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

constexpr Sregs kNoPagingRegs{cr0::kPe | cr0::kEt | cr0::kNe, 0x5000, cr4::kPae | cr4::kSmep, 0};

class TdpHardware : public ::testing::TestWithParam<TdpMachine> {
 protected:
  static VmConfig restricted(Gpa map) {
    VmConfig c = GetParam().config();
    c.tdp.unrestricted = false;
    c.identity_map = map;
    return c;
  }
};
INSTANTIATE_TEST_SUITE_P(, TdpHardware, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpHardware, PointerIsAsTheManualsHaveIt) {
  TdpGuest g(GetParam());
  const EntryState e = g.cpu().enter();
  ASSERT_TRUE(e.ok);
  const u64 ad = GetParam().ad ? u64{1} << 6 : 0;
  const u64 want =
      GetParam().ept() ? e.root.raw | 6 | (GetParam().levels - 1u) << 3 | ad : e.root.raw;
  EXPECT_EQ(e.tdp_pointer, want);
  EXPECT_EQ(e.levels, GetParam().levels);
  EXPECT_EQ(e.private_pointer, 0u);
}

TEST_P(TdpHardware, GuestRunsOnItsOwnRegisters) {
  TdpGuest g(GetParam());
  ASSERT_TRUE(g.cpu().set_cr3(0x9000));
  ASSERT_TRUE(g.cpu().set_cr4(g.cpu().cr4() | cr4::kSmap));
  const EntryState e = g.cpu().enter();
  EXPECT_EQ(e.guest_cr3, 0x9000u);
  EXPECT_EQ(e.guest_cr4 & ~cr4::kVmxe, g.cpu().cr4());
  EXPECT_EQ(e.guest_cr0, g.cpu().cr0());
  EXPECT_FALSE(e.pdptes_valid);
}

TEST_P(TdpHardware, GuestsCachingBitsAreNotTheHardwares) {
  TdpGuest g(GetParam());
  ASSERT_TRUE(g.cpu().set_cr0(g.cpu().cr0() | cr0::kCd | cr0::kNw));
  EXPECT_EQ(g.cpu().enter().guest_cr0 & (cr0::kCd | cr0::kNw), 0u);
  EXPECT_NE(g.cpu().cr0() & cr0::kCd, 0u) << "as the guest reads it";
}

TEST_P(TdpHardware, PaeGuestHasItsPdptesLoaded) {
  TdpGuest g(GetParam());
  for (u64 i = 0; i < 4; ++i) g.platform.store(kTdpMemory + 0x5000 + i * 8, (i + 1) << 12 | 1);
  ASSERT_TRUE(g.cpu().set_sregs(
      Sregs{cr0::kPe | cr0::kPg | cr0::kEt | cr0::kNe, 0x5000, cr4::kPae, efer::kNxe}));
  const EntryState e = g.cpu().enter();
  EXPECT_EQ(e.pdptes_valid, GetParam().ept()) << "AMD reads them from memory";
  if (e.pdptes_valid) {
    for (u64 i = 0; i < 4; ++i) EXPECT_EQ(e.pdpte[i], (i + 1) << 12 | 1);
  }
}

TEST_P(TdpHardware, PdpteWithAReservedBitIsRefusedAsEver) {
  TdpGuest g(GetParam());
  g.platform.store(kTdpMemory + 0x5000, 0x1000 | 3);
  const Sregs pae{cr0::kPe | cr0::kPg | cr0::kEt | cr0::kNe, 0x5000, cr4::kPae, efer::kNxe};
  EXPECT_EQ(g.cpu().set_sregs(pae), !GetParam().ept());
}

TEST_P(TdpHardware, GuestWithoutPagingRunsAsItIs) {
  TdpGuest g(GetParam());
  ASSERT_TRUE(g.cpu().set_sregs(kNoPagingRegs));
  const EntryState e = g.cpu().enter();
  EXPECT_EQ(e.guest_cr0 & cr0::kPg, 0u);
  EXPECT_EQ(e.guest_cr3, 0x5000u);
}

TEST_P(TdpHardware, GuestWithoutPagingOnTheIdentityMap) {
  constexpr Gpa kMap{0x7000};
  TdpGuest g(GetParam(), restricted(kMap));
  ASSERT_TRUE(g.cpu().set_sregs(kNoPagingRegs));
  const EntryState e = g.cpu().enter();
  ASSERT_TRUE(e.ok);
  if (!GetParam().ept()) {
    EXPECT_EQ(e.guest_cr3, 0x5000u) << "SVM can always do without";
    return;
  }
  EXPECT_EQ(e.guest_cr0 & (cr0::kPg | cr0::kPe), cr0::kPg | cr0::kPe);
  EXPECT_EQ(e.guest_cr3, kMap.raw);
  EXPECT_EQ(e.guest_cr4 & (cr4::kPae | cr4::kPse | cr4::kSmep), cr4::kPse);
  // 1024 pages of 4M, each at its own address: present, writable, user, accessed, dirty, large.
  for (u64 i = 0; i < 512; ++i) {
    const u64 two = g.platform.load(kTdpMemory + kMap.raw + i * 8);
    EXPECT_EQ(two & 0xffff'ffff, (2 * i) << 22 | 0xe7);
    EXPECT_EQ(two >> 32, (2 * i + 1) << 22 | 0xe7);
  }
  EXPECT_EQ(g.cpu().cr3(), 0x5000u) << "as the guest reads it";
  EXPECT_EQ(g.cpu().cr0() & cr0::kPg, 0u);
}

using TdpHardwareEpt = TdpHardware;
INSTANTIATE_TEST_SUITE_P(, TdpHardwareEpt, ::testing::ValuesIn(machines(has_ept)), tdp_name);

TEST_P(TdpHardwareEpt, IdentityMapIsWrittenAgainWhenMemoryHasChanged) {
  constexpr Gpa kMap{0x7000};
  TdpGuest g(GetParam(), restricted(kMap));
  ASSERT_TRUE(g.cpu().set_sregs(kNoPagingRegs));
  ASSERT_TRUE(g.cpu().enter().ok);
  g.platform.store(kTdpMemory + kMap.raw, 0);
  ASSERT_TRUE(g.cpu().enter().ok);
  EXPECT_EQ(g.platform.load(kTdpMemory + kMap.raw), 0u) << "once";
  ASSERT_EQ(g.set(g.slot(1, Gfn{0x10'0000}, 1, kTdpMemory)), Status::kOk);
  ASSERT_TRUE(g.cpu().enter().ok);
  EXPECT_NE(g.platform.load(kTdpMemory + kMap.raw), 0u);
}

TEST_P(TdpHardware, NoPlaceForTheIdentityMapNoEntry) {
  TdpGuest g(GetParam(), restricted(Gpa{0xfffb'c000}));
  ASSERT_TRUE(g.cpu().set_sregs(kNoPagingRegs));
  EXPECT_EQ(g.cpu().enter().ok, !GetParam().ept());
}

TEST(TdpHardwareLevels, EptHasFourAtLeast) {
  TdpMachine m = kTdpMachines[0];
  VmConfig c = m.config();
  c.host_levels = 3;
  TdpGuest g(m, c);
  EXPECT_EQ(g.cpu().enter().levels, 4u);
}

}  // namespace
}  // namespace mmu::testing
