#include "mmu_core/tdp/format.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::tdp {
namespace {

class TdpFormat : public ::testing::TestWithParam<testing::TdpMachine> {
 protected:
  u64 leaf(bool writable = true, unsigned level = 1) const {
    LeafParts p;
    p.pfn = Pfn{0x4000'0000 >> 12};
    p.level = level;
    p.host_writable = p.mmu_writable = true;
    p.writable = writable;
    return make_leaf(f_, p);
  }
  const Format f_ = make_format(GetParam().config());
};
INSTANTIATE_TEST_SUITE_P(, TdpFormat, ::testing::ValuesIn(testing::kTdpMachines),
                         testing::tdp_name);

TEST_P(TdpFormat, NothingIsTakenForAnythingElse) {
  const u64 table = make_table(f_, Hpa{0x5000}, 2);
  const u64 mmio = make_mmio(f_, Gfn{0x1234}, 77);
  for (const u64 e : {leaf(), leaf(false), leaf(true, 2), table, mmio, kFrozen, u64{0}}) {
    const int kinds = is_leaf(e, e == leaf(true, 2) || e == table ? 2 : 1) + (e == table) +
                      is_mmio(f_, e) + is_frozen(e) + (e == 0);
    EXPECT_EQ(kinds, 1) << std::hex << e;
  }
  EXPECT_FALSE(in_hardware(f_, kFrozen));
}

TEST_P(TdpFormat, MmioKeepsAllOfItsGfnAndGeneration) {
  for (const u64 generation : {u64{0}, u64{1}, u64{0xff}, u64{0x100}, u64{0x15555}, kMmioGenMask}) {
    const u64 e = make_mmio(f_, Gfn{0x7'1234'5678}, generation);
    EXPECT_EQ(mmio_generation(e), generation);
    EXPECT_EQ(mmio_gfn(f_, e), Gfn{0x7'1234'5678});
    EXPECT_TRUE(is_mmio(f_, e));
    EXPECT_FALSE(is_present(e));
  }
}

TEST(TdpFormatNpt, NoMmioEntryWithoutAReservedAddressBit) {
  VmConfig c = testing::kTdpMachines[7].config();
  ASSERT_EQ(c.translation, Translation::kNpt);
  c.caps.host_maxphyaddr = 52;
  EXPECT_FALSE(mmio_possible(make_format(c), Gfn{1}));
}

using TdpFormatNoAd = TdpFormat;
INSTANTIATE_TEST_SUITE_P(, TdpFormatNoAd,
                         ::testing::ValuesIn(testing::machines([](const testing::TdpMachine& m) {
                           return m.ept() && !m.ad;
                         })),
                         testing::tdp_name);

TEST_P(TdpFormatNoAd, HiddenRightsComeBack) {
  const u64 e = leaf();
  const u64 hidden = tracking_access(f_, e);
  EXPECT_FALSE(in_hardware(f_, hidden));
  EXPECT_TRUE(tracks_access(f_, hidden));
  EXPECT_EQ(untracked(f_, hidden), e & ~f_.write) << "all but W";
  LeafParts p;
  p.executable = false;
  const u64 data = make_leaf(f_, p);
  EXPECT_EQ(untracked(f_, tracking_access(f_, data)), data);
  EXPECT_TRUE(is_executable(f_, untracked(f_, executable(f_, tracking_access(f_, data)))));
}

TEST_P(TdpFormat, WhatOwesAFlush) {
  const u64 e = leaf();
  EXPECT_TRUE(change_owes_flush(f_, e, 0));
  EXPECT_TRUE(change_owes_flush(f_, e, kFrozen));
  EXPECT_TRUE(change_owes_flush(f_, e, leaf(false)));
  EXPECT_TRUE(change_owes_flush(f_, e, make_table(f_, Hpa{0x5000}, 2)));
  EXPECT_FALSE(change_owes_flush(f_, 0, e));
  EXPECT_FALSE(change_owes_flush(f_, kFrozen, e));
  EXPECT_FALSE(change_owes_flush(f_, make_mmio(f_, Gfn{1}, 0), e));
  EXPECT_FALSE(change_owes_flush(f_, leaf(false), e));
  EXPECT_FALSE(change_owes_flush(f_, e, e));
  if (f_.dirty) EXPECT_TRUE(change_owes_flush(f_, e, e & ~f_.dirty));
}

TEST_P(TdpFormat, OwnEntriesHaveNoReservedBit) {
  for (unsigned level = 2; level <= f_.levels; ++level)
    EXPECT_FALSE(f_.reserved.violates(make_table(f_, Hpa{0x5000}, level), level)) << level;
  for (unsigned level = 1; level <= f_.largest; ++level) {
    EXPECT_FALSE(f_.reserved.violates(leaf(true, level), level)) << level;
    EXPECT_TRUE(f_.reserved.violates(leaf(true, level) | bit(47), level)) << level;
  }
  EXPECT_TRUE(f_.reserved.violates(leaf(true, f_.largest) + kPageSize * 2, f_.largest));
}

}  // namespace
}  // namespace mmu::tdp
