#include "mmu_core/registers.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using registers::Invalidates;

constexpr u64 kProtected = cr0::kPe | cr0::kEt;

CpuRegisters in_long_mode() { return registers::at_start(Capabilities{}); }
CpuRegisters without_paging() {
  CpuRegisters r;
  r.cr0 = kProtected;
  return r;
}

TEST(Registers, IntoLongModeAndBack) {
  CpuRegisters r = without_paging();
  const Capabilities caps;
  ASSERT_TRUE(registers::write_efer(caps, r, efer::kLme));
  EXPECT_FALSE(registers::write_cr0(r, kProtected | cr0::kPg)) << "LME without PAE";
  EXPECT_EQ(r.cr0, kProtected);
  ASSERT_TRUE(registers::write_cr4(caps, r, cr4::kPae));
  ASSERT_TRUE(registers::write_cr0(r, kProtected | cr0::kPg));
  EXPECT_EQ(r.efer, efer::kLme | efer::kLma);
  EXPECT_FALSE(registers::write_efer(caps, r, 0)) << "LME while paging";
  EXPECT_FALSE(registers::write_cr4(caps, r, 0)) << "PAE in IA-32e mode";
  ASSERT_TRUE(registers::write_cr0(r, kProtected));
  EXPECT_EQ(r.efer, efer::kLme) << "LMA is the processor's";
  EXPECT_TRUE(registers::write_efer(caps, r, 0));
  EXPECT_TRUE(registers::write_cr0(r, kProtected | cr0::kPg)) << "PAE paging";
  EXPECT_EQ(r.efer, 0u);
}

TEST(Registers, Cr0) {
  CpuRegisters r = in_long_mode();
  EXPECT_FALSE(registers::write_cr0(r, cr0::kPg));
  EXPECT_FALSE(registers::write_cr0(r, r.cr0 | cr0::kNw));
  EXPECT_TRUE(registers::write_cr0(r, r.cr0 | cr0::kNw | cr0::kCd));
  EXPECT_FALSE(registers::write_cr0(r, r.cr0 | bit(32)));
  EXPECT_TRUE(registers::write_cr0(r, cr0::kPe | cr0::kPg | bit(10)));
  EXPECT_EQ(r.cr0, cr0::kPe | cr0::kPg | cr0::kEt);
  r.cr4 |= cr4::kPcide;
  EXPECT_FALSE(registers::write_cr0(r, cr0::kPe)) << "PG may not go while PCIDE is set";
}

TEST(Registers, Cr4) {
  Capabilities caps;
  caps.la57 = true;
  CpuRegisters r = in_long_mode();
  EXPECT_FALSE(registers::write_cr4(caps, r, cr4::kPae | cr4::kLa57)) << "LA57 in IA-32e mode";
  r.cr3 = 1;
  EXPECT_FALSE(registers::write_cr4(caps, r, cr4::kPae | cr4::kPcide)) << "CR3 11:0 are not 0";
  r.cr3 = 0x1000;
  EXPECT_TRUE(registers::write_cr4(caps, r, cr4::kPae | cr4::kPcide));
  r = without_paging();
  EXPECT_FALSE(registers::write_cr4(caps, r, cr4::kPae | cr4::kPcide)) << "PCIDE needs LMA";
  EXPECT_TRUE(registers::write_cr4(caps, r, cr4::kLa57));
  const auto denied = [](auto lacks, u64 bit) {
    Capabilities c;
    lacks(c);
    CpuRegisters none = without_paging();
    return !registers::write_cr4(c, none, bit);
  };
  EXPECT_TRUE(denied([](Capabilities& c) { c.pse = false; }, cr4::kPse));
  EXPECT_TRUE(denied([](Capabilities& c) { c.pae = false; }, cr4::kPae));
  EXPECT_TRUE(denied([](Capabilities& c) { c.pge = false; }, cr4::kPge));
  EXPECT_TRUE(denied([](Capabilities& c) { c.smep = false; }, cr4::kSmep));
  EXPECT_TRUE(denied([](Capabilities& c) { c.la57 = false; }, cr4::kLa57));
}

TEST(Registers, Cr3OutsideLongModeHas32Bits) {
  const Capabilities caps;
  bool flush = false;
  CpuRegisters r = without_paging();
  EXPECT_TRUE(registers::write_cr3(caps, r, ~u64{0} << 5, flush));
  EXPECT_EQ(r.cr3, 0xffff'ffe0u);
  EXPECT_TRUE(flush);
  r = in_long_mode();
  EXPECT_FALSE(registers::write_cr3(caps, r, bit(40), flush));
  EXPECT_FALSE(registers::write_cr3(caps, r, cr3::kNoFlush, flush));
  EXPECT_TRUE(registers::write_cr3(caps, r, bit(39), flush));
  // What stays from IA-32e mode is not seen, but not lost either.
  ASSERT_TRUE(registers::write_cr0(r, kProtected));
  EXPECT_EQ(registers::visible_cr3(r), 0u);
  ASSERT_TRUE(registers::write_cr0(r, kProtected | cr0::kPg));
  EXPECT_EQ(registers::visible_cr3(r), bit(39));
}

TEST(Registers, SregsMustBeConsistent) {
  Capabilities caps;
  const auto ok = [&](Sregs s) {
    CpuRegisters r;
    const bool taken = registers::set_sregs(caps, r, s);
    if (!taken) EXPECT_EQ(r.cr0 | r.cr3 | r.cr4 | r.efer, 0u) << "refused, but changed";
    return taken;
  };
  const u64 pg = cr0::kPe | cr0::kPg, lm = efer::kLme | efer::kLma;
  EXPECT_TRUE(ok({kProtected, 0, 0, 0}));
  EXPECT_TRUE(ok({pg, 0, 0, 0}));
  EXPECT_TRUE(ok({pg, 0, cr4::kPae, 0}));
  EXPECT_TRUE(ok({pg, 0, cr4::kPae, lm}));
  EXPECT_TRUE(ok({kProtected, 0, 0, efer::kLme}));
  EXPECT_FALSE(ok({cr0::kPg, 0, 0, 0}));
  EXPECT_FALSE(ok({kProtected | cr0::kNw, 0, 0, 0}));
  EXPECT_FALSE(ok({pg | bit(32), 0, 0, 0}));
  EXPECT_FALSE(ok({pg, 0, 0, lm})) << "no PAE";
  EXPECT_FALSE(ok({pg, 0, cr4::kPae, efer::kLme})) << "LMA is missing";
  EXPECT_FALSE(ok({pg, 0, cr4::kPae, efer::kLma})) << "LME is missing";
  EXPECT_FALSE(ok({kProtected, 0, cr4::kPae, lm})) << "LMA without paging";
  EXPECT_FALSE(ok({pg, 0, cr4::kPae | cr4::kPcide, 0}));
  EXPECT_TRUE(ok({pg, 0, cr4::kPae | cr4::kPcide, lm}));
  EXPECT_FALSE(ok({pg, bit(40), cr4::kPae, lm}));
  EXPECT_TRUE(ok({pg, bit(40), cr4::kPae, 0})) << "outside IA-32e mode its low 32 bits count";
  EXPECT_FALSE(ok({pg, 0, cr4::kPae | cr4::kLa57, lm})) << "no such feature";
  EXPECT_FALSE(ok({pg, 0, bit(30), 0}));
  EXPECT_FALSE(ok({pg, 0, 0, bit(9)}));
  caps.la57 = true;
  EXPECT_TRUE(ok({pg, 0, cr4::kPae | cr4::kLa57, lm}));
  EXPECT_TRUE(ok({pg, 0, cr4::kLa57, 0}));
  caps.nx = false;
  EXPECT_FALSE(ok({pg, 0, 0, efer::kNxe}));
}

TEST(Registers, WhatChangesInvalidate) {
  const auto of = [](Vendor vendor, u64 cr0_change, u64 cr4_change, u64 cr4_before) {
    CpuRegisters before;
    before.cr0 = cr0::kPe | cr0::kPg;
    before.cr4 = cr4_before;
    CpuRegisters after = before;
    after.cr0 ^= cr0_change;
    after.cr4 ^= cr4_change;
    return registers::invalidates(vendor, before, after);
  };
  for (const Vendor v : {Vendor::kIntel, Vendor::kAmd}) {
    EXPECT_EQ(of(v, cr0::kPg, 0, 0), Invalidates::kEverything);
    EXPECT_EQ(of(v, 0, cr4::kPge, 0), Invalidates::kEverything);
    EXPECT_EQ(of(v, 0, cr4::kPge, cr4::kPge), Invalidates::kEverything);
    EXPECT_EQ(of(v, 0, cr4::kPcide, cr4::kPcide), Invalidates::kEverything);
    EXPECT_EQ(of(v, 0, cr4::kPcide, 0), Invalidates::kNothing);
    EXPECT_EQ(of(v, 0, cr4::kSmep, 0), Invalidates::kCurrentPcid);
    EXPECT_EQ(of(v, 0, cr4::kSmep, cr4::kSmep), Invalidates::kNothing);
    EXPECT_EQ(of(v, cr0::kWp, cr4::kSmap, 0), Invalidates::kNothing);
    EXPECT_EQ(of(v, 0, cr4::kPae, 0), Invalidates::kEverything);
    EXPECT_EQ(of(v, 0, cr4::kPse, cr4::kPse), Invalidates::kEverything);
  }
  EXPECT_EQ(of(Vendor::kIntel, 0, cr4::kPke, 0), Invalidates::kNothing);
  EXPECT_EQ(of(Vendor::kAmd, 0, cr4::kPke, 0), Invalidates::kEverything);
  EXPECT_EQ(of(Vendor::kAmd, 0, cr4::kPke, cr4::kPke), Invalidates::kNothing);
}

}  // namespace
}  // namespace mmu
