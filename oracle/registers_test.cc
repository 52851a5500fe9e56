#include "oracle/registers.h"

#include <gtest/gtest.h>

#include "oracle/paging.h"
#include "oracle/rules.h"

namespace twinwalk::oracle {
namespace {

using Kind = RegisterWrite::Kind;

constexpr std::uint64_t kCr0 = cr0::kPe | cr0::kEt | cr0::kNe | cr0::kWp | cr0::kPg;
constexpr std::uint64_t kEfer = efer::kLme | efer::kLma | efer::kNxe;

struct Row {
  const char* what;
  Reg reg;
  std::uint64_t value;
  Kind want;
};

Machine everything(Mode mode = Mode::k4Level) {
  Machine m;
  m.features = feature::kAll;
  m.mode = mode;
  return m;
}

void expect_rows(const Machine& machine, const Registers& now, std::span<const Row> rows) {
  for (const Row& row : rows) {
    const RegisterWrite w = write_register(machine, now, row.reg, row.value);
    EXPECT_EQ(static_cast<int>(w.kind), static_cast<int>(row.want))
        << name_of(row.reg) << ": " << row.what;
    ASSERT_NE(w.rule, nullptr);
  }
}

TEST(Registers, WritesFrom4LevelMode) {
  const Row rows[] = {
      {"same", Reg::kCr0, kCr0, Kind::kAccept},
      {"WP off", Reg::kCr0, kCr0 & ~cr0::kWp, Kind::kAccept},
      {"unnamed low bit is ignored", Reg::kCr0, kCr0 | bit(10), Kind::kAccept},
      {"bit 32", Reg::kCr0, kCr0 | bit(32), Kind::kGp},
      {"NW without CD", Reg::kCr0, kCr0 | cr0::kNw, Kind::kGp},
      {"NW with CD", Reg::kCr0, kCr0 | cr0::kNw | cr0::kCd, Kind::kAccept},
      {"PG off, as from compatibility mode", Reg::kCr0, kCr0 & ~cr0::kPg, Kind::kAccept},
      {"PE off with PG on", Reg::kCr0, kCr0 & ~cr0::kPe, Kind::kGp},
      {"PE and PG off", Reg::kCr0, kCr0 & ~(cr0::kPe | cr0::kPg), Kind::kAccept},
      {"root", Reg::kCr3, 0x5000, Kind::kAccept},
      {"low bits are ignored without PCIDE", Reg::kCr3, 0x5fff, Kind::kAccept},
      {"highest address bit", Reg::kCr3, bit(39), Kind::kAccept},
      {"above MAXPHYADDR", Reg::kCr3, bit(40), Kind::kGp},
      {"bit 63 without PCIDE", Reg::kCr3, 0x5000 | bit(63), Kind::kGp},
      {"PAE off", Reg::kCr4, 0, Kind::kGp},
      {"all features", Reg::kCr4,
       cr4::kPae | cr4::kPse | cr4::kPge | cr4::kPcide | cr4::kSmep | cr4::kSmap | cr4::kPke |
           cr4::kMce,
       Kind::kAccept},
      {"unnamed bit", Reg::kCr4, cr4::kPae | bit(24), Kind::kGp},
      {"bit 32", Reg::kCr4, cr4::kPae | bit(32), Kind::kGp},
      {"LA57 in long mode", Reg::kCr4, cr4::kPae | cr4::kLa57, Kind::kGp},
      {"NXE off", Reg::kEfer, kEfer & ~efer::kNxe, Kind::kAccept},
      {"LMA written as 0 is ignored", Reg::kEfer, kEfer & ~efer::kLma, Kind::kAccept},
      {"LME off with paging on", Reg::kEfer, kEfer & ~efer::kLme, Kind::kGp},
      {"unnamed bit", Reg::kEfer, kEfer | bit(20), Kind::kGp},
      {"SVME on Intel", Reg::kEfer, kEfer | efer::kSvme, Kind::kGp},
      {"PKRU without PKE", Reg::kPkru, 4, Kind::kNotThere},
      {"CPL", Reg::kCpl, 3, Kind::kAccept},
  };
  const Machine machine = everything();
  expect_rows(machine, initial_registers(machine), rows);
}

TEST(Registers, WritesFrom5LevelMode) {
  const Row rows[] = {
      {"LA57 off in long mode", Reg::kCr4, cr4::kPae, Kind::kGp},
      {"PAE off", Reg::kCr4, cr4::kLa57, Kind::kGp},
      {"PCIDE", Reg::kCr4, cr4::kPae | cr4::kLa57 | cr4::kPcide, Kind::kAccept},
      {"PG off", Reg::kCr0, kCr0 & ~cr0::kPg, Kind::kAccept},
      {"above MAXPHYADDR", Reg::kCr3, bit(40), Kind::kGp},
  };
  const Machine machine = everything(Mode::k5Level);
  expect_rows(machine, initial_registers(machine), rows);
}

TEST(Registers, WritesFromPaeAnd32BitMode) {
  for (const Mode mode : {Mode::kPae, Mode::k32Bit}) {
    const Machine machine = everything(mode);
    const Registers now = initial_registers(machine);
    const Row rows[] = {
        {"PG off", Reg::kCr0, kCr0 & ~cr0::kPg, Kind::kAccept},
        {"LME with paging on", Reg::kEfer, now.efer | efer::kLme, Kind::kGp},
        {"NXE off", Reg::kEfer, now.efer & ~efer::kNxe, Kind::kAccept},
        {"PAE flips with paging on", Reg::kCr4, now.cr4 ^ cr4::kPae, Kind::kAccept},
        {"LA57 means nothing yet", Reg::kCr4, now.cr4 | cr4::kLa57, Kind::kAccept},
        {"PCIDE outside long mode", Reg::kCr4, now.cr4 | cr4::kPcide, Kind::kGp},
        {"SMEP, SMAP, PKE", Reg::kCr4, now.cr4 | cr4::kSmep | cr4::kSmap | cr4::kPke,
         Kind::kAccept},
        {"32-bit operand of MOV CR4", Reg::kCr4, now.cr4 | bit(40), Kind::kOpen},
        {"32-bit operand of MOV CR0", Reg::kCr0, kCr0 | bit(32), Kind::kOpen},
        {"illegal whatever the operand's size", Reg::kCr0, cr0::kPg | bit(32), Kind::kGp},
        {"bits 63:32 of CR3", Reg::kCr3, bit(63) | bit(45) | 0x5000, Kind::kAccept},
    };
    expect_rows(machine, now, rows);
  }
}

TEST(Registers, LongModeIsEnteredAndLeftWithPaging) {
  const Machine m = everything(Mode::kPae);
  Registers r = initial_registers(m);
  r = write_register(m, r, Reg::kCr0, r.cr0 & ~cr0::kPg).after;
  EXPECT_EQ(mode_of(r.cr0, r.cr4, r.efer), Mode::kNone);
  const RegisterWrite lme = write_register(m, r, Reg::kEfer, r.efer | efer::kLme);
  ASSERT_EQ(lme.kind, Kind::kAccept) << "LME may change with PG=0";
  r = lme.after;
  EXPECT_FALSE(r.efer & efer::kLma);
  const Registers no_pae = write_register(m, r, Reg::kCr4, 0).after;
  EXPECT_EQ(write_register(m, no_pae, Reg::kCr0, kCr0).kind, Kind::kGp) << "PG needs PAE";
  for (const bool la57 : {false, true}) {
    const Registers chosen =
        write_register(m, r, Reg::kCr4, cr4::kPae | (la57 ? cr4::kLa57 : 0)).after;
    const RegisterWrite on = write_register(m, chosen, Reg::kCr0, kCr0);
    ASSERT_EQ(on.kind, Kind::kAccept);
    EXPECT_TRUE(on.after.efer & efer::kLma);
    EXPECT_EQ(row_of(on.after), la57 ? kRow5Level : kRow4Level);
    EXPECT_FALSE(on.loads_pdptes);
    const RegisterWrite off = write_register(m, on.after, Reg::kCr0, kCr0 & ~cr0::kPg);
    EXPECT_EQ(off.after.efer & (efer::kLma | efer::kLme), efer::kLme);
  }
  Registers pcide = initial_registers(everything());
  pcide.cr4 |= cr4::kPcide;
  EXPECT_EQ(write_register(m, pcide, Reg::kCr0, kCr0 & ~cr0::kPg).kind, Kind::kGp)
      << "PG off with PCIDE on";
}

TEST(Registers, EachRowOfModesIsSelected) {
  const std::uint64_t pe = cr0::kPe, pg = cr0::kPe | cr0::kPg;
  const struct {
    std::uint64_t cr0, cr4, efer;
    unsigned row;
  } rows[] = {
      {pe, 0, 0, kRowNone},
      {pe, cr4::kPae | cr4::kLa57, efer::kLme, kRowNone},
      {pg, 0, 0, kRow32},
      {pg, cr4::kPse, efer::kNxe, kRow32Pse},
      {pg, cr4::kPae, 0, kRowPae},
      {pg, cr4::kPae | cr4::kPse | cr4::kLa57, 0, kRowPae},
      {pg, cr4::kPae, efer::kLme | efer::kLma, kRow4Level},
      {pg, cr4::kPae | cr4::kPse, efer::kLme | efer::kLma, kRow4Level},
      {pg, cr4::kPae | cr4::kLa57, efer::kLme | efer::kLma, kRow5Level},
  };
  for (const auto& row : rows) {
    Registers r;
    r.cr0 = row.cr0, r.cr4 = row.cr4, r.efer = row.efer;
    EXPECT_EQ(row_of(r), row.row);
    EXPECT_EQ(kModes[row_of(r)].mode, mode_of(r.cr0, r.cr4, r.efer));
  }
}

TEST(Registers, Cr3WidthByMode) {
  for (const Mode mode : {Mode::kNone, Mode::k32Bit, Mode::kPae}) {
    const Machine m = everything(mode);
    const RegisterWrite w =
        write_register(m, initial_registers(m), Reg::kCr3, 0xffff'ffff'0020'0fff);
    EXPECT_EQ(w.kind, Kind::kAccept);
    EXPECT_EQ(w.after.cr3, 0x0020'0fffu) << name_of(mode);
  }
  EXPECT_EQ(0x1234'5fff & kModes[kRowPae].root_mask, 0x1234'5fe0u) << "CR3[31:5]";
  EXPECT_EQ(0x1234'5fff & kModes[kRow32].root_mask, 0x1234'5000u) << "CR3[31:12]";
  EXPECT_EQ((bit(39) | 0xfff) & kModes[kRow4Level].root_mask, bit(39)) << "CR3[51:12]";
}

// SDM 3A §"PDPTE Registers": each bit of CR0 and CR4, alone, both ways.
TEST(Registers, WhatLoadsPdptes) {
  const Machine m = everything(Mode::kPae);
  Registers base = initial_registers(m);
  base.cr0 |= cr0::kCd | cr0::kNw;
  const std::uint64_t of_cr0 = cr0::kCd | cr0::kNw, of_cr4 = cr4::kPge | cr4::kPse | cr4::kSmep;
  for (const BitName& name : cr0::kNames) {
    for (const bool first_set : {false, true}) {
      Registers now = base;
      now.cr0 = first_set ? base.cr0 | name.mask : base.cr0 & ~name.mask;
      const RegisterWrite w = write_register(m, now, Reg::kCr0, now.cr0 ^ name.mask);
      if (w.kind != Kind::kAccept || row_of(w.after) != kRowPae) continue;
      const bool paging_begins = name.mask == cr0::kPg;
      EXPECT_EQ(w.loads_pdptes, (name.mask & of_cr0) != 0 || paging_begins) << name.name;
    }
  }
  for (const BitName& name : cr4::kNames) {
    for (const bool first_set : {false, true}) {
      Registers now = base;
      now.cr4 = first_set ? base.cr4 | name.mask : base.cr4 & ~name.mask;
      const RegisterWrite w = write_register(m, now, Reg::kCr4, now.cr4 ^ name.mask);
      if (w.kind != Kind::kAccept) continue;
      const bool begins = name.mask == cr4::kPae && !first_set;
      EXPECT_EQ(w.loads_pdptes, (name.mask & of_cr4) != 0 || begins) << name.name;
    }
  }
  EXPECT_TRUE(write_register(m, base, Reg::kCr3, base.cr3).loads_pdptes) << "the same value too";
  EXPECT_FALSE(write_register(m, base, Reg::kEfer, 0).loads_pdptes);
  EXPECT_FALSE(write_register(m, base, Reg::kCr0, base.cr0).loads_pdptes) << "no change";
  for (const Mode other : {Mode::kNone, Mode::k32Bit, Mode::k4Level, Mode::k5Level}) {
    const Machine o = everything(other);
    const Registers r = initial_registers(o);
    EXPECT_FALSE(write_register(o, r, Reg::kCr3, r.cr3).loads_pdptes) << name_of(other);
    EXPECT_FALSE(write_register(o, r, Reg::kCr4, r.cr4 ^ cr4::kPge).loads_pdptes);
    EXPECT_FALSE(write_register(o, r, Reg::kCr0, r.cr0 ^ cr0::kCd).loads_pdptes);
  }
}

TEST(Registers, WhichPdptesFault) {
  for (const unsigned width : {36u, 40u, 52u}) {
    Machine m = everything(Mode::kPae);
    m.maxphyaddr = static_cast<std::uint8_t>(width);
    const EntryRules rules = make_entry_rules(kModes[kRowPae], m, true);
    for (unsigned b = 1; b < 64; ++b) {
      const bool reserved = b == 1 || b == 2 || (b >= 5 && b <= 8) || b >= width;
      for (unsigned i = 0; i < 4; ++i) {
        PdpteRegisters p;
        p.entry[i] = bit(b);
        EXPECT_FALSE(pdptes_fault(rules, p)) << "P=0, bit " << b;
        p.entry[i] |= pte::kP;
        EXPECT_EQ(pdptes_fault(rules, p), reserved) << "bit " << b << " of PDPTE " << i;
      }
    }
  }
}

TEST(Registers, EachCr4BitNeedsItsFeature) {
  const struct {
    std::uint64_t cr4;
    std::uint32_t feature;
  } rows[] = {{cr4::kPse, feature::kPse},    {cr4::kPge, feature::kPge},
              {cr4::kPcide, feature::kPcid}, {cr4::kSmep, feature::kSmep},
              {cr4::kSmap, feature::kSmap},  {cr4::kPke, feature::kPku}};
  for (const auto& row : rows) {
    Machine without = everything();
    without.features &= ~row.feature;
    for (const Machine& m : {everything(), without}) {
      const RegisterWrite w =
          write_register(m, initial_registers(m), Reg::kCr4, cr4::kPae | row.cr4);
      EXPECT_EQ(w.kind == Kind::kAccept, m.has(row.feature)) << std::hex << row.cr4;
    }
  }
  Machine legacy = everything(Mode::k32Bit);
  legacy.features &= ~(feature::kPae | feature::kLa57);
  const Registers r = initial_registers(legacy);
  EXPECT_EQ(write_register(legacy, r, Reg::kCr4, cr4::kPae).kind, Kind::kGp);
  EXPECT_EQ(write_register(legacy, r, Reg::kCr4, cr4::kLa57).kind, Kind::kGp);
}

TEST(Registers, EferBitsNeedTheirFeatures) {
  Machine without = everything();
  without.features &= ~feature::kNx;
  EXPECT_EQ(write_register(without, initial_registers(without), Reg::kEfer, kEfer).kind, Kind::kGp);
  Machine amd = everything();
  amd.vendor = Vendor::kAmd;
  const Registers r = initial_registers(amd);
  EXPECT_EQ(write_register(amd, r, Reg::kEfer, kEfer | efer::kSvme).kind, Kind::kAccept);
  amd.features &= ~feature::kSvm;
  EXPECT_EQ(write_register(amd, r, Reg::kEfer, kEfer | efer::kSvme).kind, Kind::kGp);
}

TEST(Registers, PcideRules) {
  const Machine m = everything();
  Registers r = initial_registers(m);
  r.cr3 = 0x5001;
  EXPECT_EQ(write_register(m, r, Reg::kCr4, cr4::kPae | cr4::kPcide).kind, Kind::kGp)
      << "CR3[11:0] != 0";
  r.cr4 |= cr4::kPcide;
  EXPECT_EQ(write_register(m, r, Reg::kCr4, cr4::kPae | cr4::kPcide | cr4::kPge).kind,
            Kind::kAccept)
      << "only the change 0 to 1 is checked";
  const RegisterWrite w = write_register(m, r, Reg::kCr3, 0x6002 | cr3::kNoFlush);
  EXPECT_EQ(w.kind, Kind::kAccept);
  EXPECT_EQ(w.after.cr3, 0x6002u) << "bit 63 is not kept";
  EXPECT_EQ(current_pcid(w.after), 2u);
}

TEST(Registers, AmdLeavesEferLmaOpen) {
  Machine amd = everything();
  amd.vendor = Vendor::kAmd;
  const RegisterWrite w =
      write_register(amd, initial_registers(amd), Reg::kEfer, kEfer & ~efer::kLma);
  EXPECT_EQ(w.kind, Kind::kOpen);
  EXPECT_EQ(w.rule->id, "efer-amd");
}

Op sregs(std::uint64_t cr0, std::uint64_t cr3, std::uint64_t cr4, std::uint64_t efer) {
  Op op;
  op.verb = Verb::kSregs;
  op.cr0 = cr0, op.cr3 = cr3, op.cr4 = cr4, op.efer = efer;
  op.given = given_bit(Field::kCr0) | given_bit(Field::kCr3) | given_bit(Field::kCr4) |
             given_bit(Field::kEfer);
  return op;
}

TEST(Sregs, AcceptsEveryModeFromEveryMode) {
  for (const Mode from : {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    for (const Mode to : {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
      const Machine m = everything(from);
      const Registers want = initial_registers(everything(to));
      const RegisterWrite w =
          set_registers(m, initial_registers(m), sregs(want.cr0, want.cr3, want.cr4, want.efer));
      EXPECT_EQ(w.kind, Kind::kAccept) << name_of(from) << " to " << name_of(to);
      EXPECT_EQ(w.after, want);
      EXPECT_EQ(w.loads_pdptes, to == Mode::kPae);
    }
  }
}

TEST(Sregs, RefusesWhatIsInconsistent) {
  const std::uint64_t off = kCr0 & ~cr0::kPg, legacy = efer::kNxe;
  const struct {
    const char* what;
    Op op;
    Kind want;
  } rows[] = {
      {"LME and PG without LMA", sregs(kCr0, 0, cr4::kPae, efer::kLme), Kind::kGp},
      {"LMA without PG", sregs(off, 0, cr4::kPae, kEfer), Kind::kGp},
      {"LMA without LME", sregs(kCr0, 0, cr4::kPae, efer::kLma), Kind::kGp},
      {"long mode without PAE", sregs(kCr0, 0, 0, kEfer), Kind::kGp},
      {"LME without PG", sregs(off, 0, 0, efer::kLme), Kind::kAccept},
      {"PG without PE", sregs(cr0::kPg, 0, 0, legacy), Kind::kGp},
      {"NW without CD", sregs(off | cr0::kNw, 0, 0, legacy), Kind::kGp},
      {"CR0 bit 32", sregs(off | bit(32), 0, 0, legacy), Kind::kGp},
      {"CR4 unnamed bit", sregs(off, 0, bit(24), legacy), Kind::kGp},
      {"EFER unnamed bit", sregs(off, 0, 0, bit(20)), Kind::kGp},
      {"SVME on Intel", sregs(off, 0, 0, efer::kSvme), Kind::kGp},
      {"CR3 above MAXPHYADDR", sregs(kCr0, bit(40), cr4::kPae, kEfer), Kind::kGp},
      {"CR3 bit 63", sregs(kCr0, bit(63), cr4::kPae | cr4::kPcide, kEfer), Kind::kGp},
      {"the same in legacy mode", sregs(kCr0, bit(40), cr4::kPae, legacy), Kind::kAccept},
      {"PCIDE without LMA", sregs(kCr0, 0, cr4::kPae | cr4::kPcide, legacy), Kind::kGp},
      {"PCIDE with a PCID at once", sregs(kCr0, 0x5001, cr4::kPae | cr4::kPcide, kEfer),
       Kind::kAccept},
      {"LA57 without long mode", sregs(kCr0, 0, cr4::kLa57, legacy), Kind::kAccept},
  };
  const Machine m = everything();
  for (const auto& row : rows) {
    EXPECT_EQ(set_registers(m, initial_registers(m), row.op).kind, row.want) << row.what;
  }
}

TEST(Sregs, LeavesWhatIsNotNamed) {
  const Machine m = everything();
  Op op;
  op.verb = Verb::kSregs;
  op.cr3 = 0x7000;
  op.cr4 = bit(24);  // not given
  op.given = given_bit(Field::kCr3);
  Registers want = initial_registers(m);
  want.cr3 = 0x7000;
  const RegisterWrite w = set_registers(m, initial_registers(m), op);
  EXPECT_EQ(w.kind, Kind::kAccept);
  EXPECT_EQ(w.after, want);
  op.given = given_bit(Field::kCr0);
  op.cr0 = kCr0 & ~cr0::kPg;
  EXPECT_EQ(set_registers(m, initial_registers(m), op).kind, Kind::kGp) << "EFER.LMA stays 1";
}

TEST(Invpcid, FaultsOfTheManual) {
  const Machine m = everything();
  Registers r = initial_registers(m);
  EXPECT_TRUE(invpcid_faults(r, 4, 0, 0));
  EXPECT_FALSE(invpcid_faults(r, 3, 0, 0));
  EXPECT_TRUE(invpcid_faults(r, 2, bit(12), 0)) << "descriptor bits 63:12";
  EXPECT_TRUE(invpcid_faults(r, 0, 1, 0)) << "a PCID without PCIDE";
  EXPECT_TRUE(invpcid_faults(r, 1, 1, 0));
  EXPECT_FALSE(invpcid_faults(r, 2, 1, 0)) << "types 2 and 3 do not use it";
  EXPECT_TRUE(invpcid_faults(r, 0, 0, bit(47)));
  EXPECT_FALSE(invpcid_faults(r, 1, 0, bit(47))) << "only type 0 uses the address";
  r.cr4 |= cr4::kPcide;
  EXPECT_FALSE(invpcid_faults(r, 0, 1, 0));
}

TEST(Invpcid, CanonicalByTheWidthOfLinearAddresses) {
  for (const Mode mode : {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level}) {
    const Registers r = initial_registers(everything(mode));
    EXPECT_FALSE(invpcid_faults(r, 0, 0, 0xffff'f000)) << name_of(mode);
    EXPECT_FALSE(invpcid_faults(r, 0, 0, bit(40))) << "all 64 bits count in every mode";
    EXPECT_TRUE(invpcid_faults(r, 0, 0, bit(47))) << name_of(mode);
  }
  const Registers five = initial_registers(everything(Mode::k5Level));
  EXPECT_FALSE(invpcid_faults(five, 0, 0, bit(47)));
  EXPECT_TRUE(invpcid_faults(five, 0, 0, bit(56)));
}

TEST(Rules, IdsAreUniqueAndComplete) {
  for (const Rule* a : rules::all()) {
    EXPECT_FALSE(a->says.empty()) << a->id;
    EXPECT_FALSE(a->citation.empty()) << a->id;
    EXPECT_EQ(rules::find(a->id), a) << "found another rule of the same id";
  }
  EXPECT_EQ(rules::find("no such rule"), nullptr);
}

}  // namespace
}  // namespace twinwalk::oracle
