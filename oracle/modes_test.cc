// The fresh walk in every paging mode: geometry, reserved bits, rights, A and D.
// Expectations stand here as the manual's tables have them, not as paging.cc does.

#include <gtest/gtest.h>

#include "oracle/access.h"
#include "oracle/mode_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kFrame = 0x400000;  // aligned for every large page but 1G

std::string mode_name(const ::testing::TestParamInfo<Mode>& p) {
  std::string name(name_of(p.param));
  for (char& c : name)
    if (c == '-') c = '_';
  return "m" + name;
}

class EveryTable : public ::testing::TestWithParam<Mode> {
 protected:
  ModeBed bed{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Modes, EveryTable, ::testing::ValuesIn(kModesWithTables), mode_name);

// A gva whose index differs at each level, and where its entries must lie.
struct Place {
  Mode mode;
  std::uint64_t gva;
  std::vector<std::uint64_t> offsets;  // of the entries in their tables, root first
};
const Place kPlaces[] = {
    {Mode::k32Bit, 0x00c0'5123, {3 * 4, 5 * 4}},
    {Mode::k32Bit, 0xffbf'f000, {1022 * 4, 1023 * 4}},
    {Mode::kPae, 0x8060'5123, {2 * 8, 3 * 8, 5 * 8}},
    {Mode::kPae, 0xffff'f000, {3 * 8, 511 * 8, 511 * 8}},
    {Mode::k4Level, 0xffff'8100'8060'5000, {258 * 8, 2 * 8, 3 * 8, 5 * 8}},
    {Mode::k5Level, 0xff07'8100'8060'5000, {263 * 8, 258 * 8, 2 * 8, 3 * 8, 5 * 8}},
};

TEST(ModeWalk, ReadsTheEntriesOfTheManual) {
  for (const Place& p : kPlaces) {
    ModeBed bed(p.mode);
    bed.map_at(p.gva, 1, kFrame | kLeafUsed);
    const WalkView view = bed.spec.view(0, bed.ask(AccessKind::kRead, p.gva));
    ASSERT_EQ(view.parts.size(), 1u) << name_of(p.mode);
    const auto& steps = view.parts[0].steps;
    ASSERT_EQ(steps.size(), p.offsets.size()) << name_of(p.mode);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      EXPECT_EQ(steps[i].entry_gpa, Testbed::kRoot + 0x1000 * i + p.offsets[i])
          << name_of(p.mode) << " step " << i;
      EXPECT_EQ(steps[i].level, steps.size() - i);
    }
    EXPECT_EQ(view.fresh.kind, OutcomeKind::kOk);
    EXPECT_EQ(view.fresh.gpa[0], kFrame | (p.gva & 0xfff));
  }
}

TEST(ModeWalk, EachEntryBitOfTheAddressCounts) {
  // One index bit of the gva at a time leads to another entry, and a bit beyond them to none.
  for (const Mode mode : kModesWithTables) {
    const PagingMode& m = *std::find_if(std::begin(kModes), std::end(kModes),
                                        [&](const PagingMode& k) { return k.mode == mode; });
    for (unsigned b = 12; b < m.linear_bits - (m.is_long() ? 1u : 0u); ++b) {
      ModeBed bed(mode);
      bed.map_at(0, 1, kFrame | kLeafUsed);
      EXPECT_EQ(bed.fresh(AccessKind::kRead, bit(b)).kind, OutcomeKind::kPageFault)
          << name_of(mode) << " bit " << b;
    }
  }
}

TEST_P(EveryTable, NotPresentAtEachLevelEndsTheWalkThere) {
  for (unsigned level = bed.mode().levels; level >= 1; --level) {
    bed.map_at(0x5000, 1, kFrame | kLeafUsed);
    bed.put(0x5000, level, ~std::uint64_t{1});
    if (GetParam() == Mode::kPae) ASSERT_EQ(says(bed.load_pdptes()), "ok");
    const Outcome o = bed.fresh(AccessKind::kWrite, 0x5000);
    EXPECT_EQ(to_text(o), "#PF ec=w cr2=0x5000");
    EXPECT_EQ(o.path[0].count, bed.mode().levels - level + 1);
  }
}

// --- Reserved bits

// SDM 3A, tables "Format of a ... Entry"; APM 2 for bit 8 of AMD's long-mode entries.
bool reserved_by_manual(const Machine& m, unsigned row, bool nxe, unsigned level, bool leaf,
                        unsigned b) {
  const bool amd = m.vendor == Vendor::kAmd;
  if (row == kRow32 || row == kRow32Pse) {
    if (level != 2 || !leaf) return false;
    if (!m.has(feature::kPse36)) return b >= 13 && b <= 21;
    const unsigned width = m.maxphyaddr < 40 ? m.maxphyaddr : 40;
    return b >= width - 19 && b <= 21;
  }
  if (row == kRowPae) {
    if (level == 3) return b == 1 || b == 2 || (b >= 5 && b <= 8) || b >= m.maxphyaddr;
    if (b == 63) return !nxe;
    if (b >= m.maxphyaddr) return true;
    return level == 2 && leaf && b >= 13 && b <= 20;
  }
  if (b == 63) return !nxe;
  if (b >= m.maxphyaddr && b <= 51) return true;
  if (level >= 4) return b == 7 || (amd && b == 8);
  if (!leaf || level == 1) return false;
  if (level == 2) return b >= 13 && b <= 20;
  return (b >= 13 && b <= 29) || !m.has(feature::k1G);
}

TEST(ModeReserved, EachBitOfEachEntryOfEachModeByMaxphyaddr) {
  unsigned looked_at = 0;
  for (const unsigned width : {36u, 37u, 39u, 40u, 41u, 46u, 52u}) {
    for (const Vendor vendor : {Vendor::kIntel, Vendor::kAmd}) {
      for (const std::uint32_t without : {0u, feature::k1G, feature::kPse36}) {
        Machine m = machine_in(Mode::k4Level, vendor);
        m.maxphyaddr = static_cast<std::uint8_t>(width);
        m.features &= ~without;
        for (unsigned row = kRow32; row < kRows; ++row) {
          for (const bool nxe : {false, true}) {
            const EntryRules rules = make_entry_rules(kModes[row], m, nxe);
            const PagingMode& mode = kModes[row];
            for (unsigned level = 1; level <= mode.levels; ++level) {
              for (const bool ps : {false, true}) {
                const std::uint64_t base = pte::kP | (ps ? pte::kPs : 0);
                const bool leaf = rules.is_leaf(base, level);
                // With PS set an entry that may not map pages is reserved itself, or ignores it.
                if (rules.reserved(base, level)) {
                  EXPECT_TRUE(ps && reserved_by_manual(m, row, nxe, level, leaf, 7));
                  continue;
                }
                for (unsigned b = 1; b < 8u * mode.entry_bytes; ++b) {
                  if (b == 7) continue;
                  ++looked_at;
                  EXPECT_EQ(rules.reserved(base | bit(b), level),
                            reserved_by_manual(m, row, nxe, level, leaf, b))
                      << "row " << row << " level " << level << " bit " << b << " ps " << ps
                      << " width " << width << " nxe " << nxe;
                }
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(looked_at, 50'000u);
}

TEST(ModeReserved, PsMapsPagesWhereTheModeSays) {
  const struct {
    unsigned row, level;
    bool leaf;
  } rows[] = {{kRow32, 2, false},     {kRow32Pse, 2, true},  {kRowPae, 2, true},
              {kRowPae, 3, false},    {kRow4Level, 2, true}, {kRow4Level, 3, true},
              {kRow4Level, 4, false}, {kRow5Level, 3, true}, {kRow5Level, 5, false}};
  for (const auto& row : rows) {
    EXPECT_EQ(kModes[row.row].is_leaf(pte::kP | pte::kPs, row.level), row.leaf) << row.row;
    EXPECT_TRUE(kModes[row.row].is_leaf(pte::kP, 1));
  }
}

TEST(ModeReserved, FaultsWithRsvdInEachMode) {
  for (const Mode mode : kModesWithTables) {
    ModeBed bed(mode);
    const bool four_byte = mode == Mode::k32Bit;
    // 4M: bit 21 (MAXPHYADDR 40); else a bit above MAXPHYADDR in the leaf.
    const std::uint64_t leaf =
        four_byte ? kFrame | kLeafUsed | pte::kPs | bit(21) : kFrame | kLeafUsed | bit(40);
    bed.map_at(0x5000, four_byte ? 2 : 1, leaf);
    EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0x5000), "#PF ec=p|rsvd cr2=0x5000")
        << name_of(mode);
  }
}

TEST(ModeReserved, PageDirectoryBitsMeanNothingWithoutPse) {
  Machine m = machine_in(Mode::k32Bit);
  m.features &= ~feature::kPse;
  ModeBed bed(m);
  bed.map_at(0x5000, 1, kFrame | kLeafUsed);
  bed.put(0x5000, 2, bed.upper(2) | pte::kPs | pte::kG | pte::kD);
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0x5000), "ok gpa=0x400000");
}

// --- Large pages

TEST(ModeLarge, Pse36ComposesTheAddress) {
  for (const unsigned width : {36u, 38u, 40u, 46u}) {
    Machine m = machine_in(Mode::k32Bit);
    m.maxphyaddr = static_cast<std::uint8_t>(width);
    const unsigned top = width < 40 ? width : 40;
    for (unsigned b = 32; b < top; ++b) {
      ModeBed bed(m);
      bed.map_at(0, 2, 0x0140'0000 | kLeafUsed | pte::kPs | bit(13 + (b - 32)));
      const Outcome o = bed.fresh(AccessKind::kRead, 0x21'2345 & ~7u);
      ASSERT_EQ(o.kind, OutcomeKind::kMmio) << "beyond this machine's memory";
      EXPECT_EQ(o.gpa[0], bit(b) | 0x0140'0000 | 0x21'2340) << "width " << width;
    }
  }
  ModeBed low(Mode::k32Bit);
  low.map_at(0, 2, 0x0140'0000 | kLeafUsed | pte::kPs | pte::kPatLarge | pte::kG);
  EXPECT_EQ(low.fresh_text(AccessKind::kRead, 0x3f'fff8), "ok gpa=0x17ffff8") << "bit 12 is PAT";
}

TEST(ModeLarge, SizesOfEachMode) {
  const struct {
    Mode mode;
    unsigned level;
    std::uint64_t bytes;
  } rows[] = {{Mode::k32Bit, 2, bit(22)},
              {Mode::kPae, 2, bit(21)},
              {Mode::k4Level, 2, bit(21)},
              {Mode::k5Level, 2, bit(21)}};
  for (const auto& row : rows) {
    ModeBed bed(row.mode);
    bed.map_at(row.bytes, row.level, 0x0080'0000 | kLeafUsed | pte::kPs);
    EXPECT_EQ(bed.fresh(AccessKind::kRead, 2 * row.bytes - 8).gpa[0], 0x0080'0000 + row.bytes - 8);
    EXPECT_EQ(bed.fresh(AccessKind::kRead, 2 * row.bytes).kind, OutcomeKind::kPageFault);
    EXPECT_EQ(bed.fresh(AccessKind::kRead, row.bytes - 8).kind, OutcomeKind::kPageFault);
  }
  ModeBed five(Mode::k5Level);
  five.map_at(bit(30), 3, kLeafUsed | pte::kPs);
  EXPECT_EQ(five.fresh_text(AccessKind::kRead, bit(30) + 0x12'3450), "ok gpa=0x123450");
}

// --- Rights

TEST_P(EveryTable, RightsAreTheAndOfAllLevelsThatHaveThem) {
  for (unsigned level = 1; level <= bed.mode().levels; ++level) {
    if (GetParam() == Mode::kPae && level == 3) continue;  // reserved there
    for (const std::uint64_t right : {pte::kW, pte::kU}) {
      bed.map_at(0x5000, 1, kFrame | kLeafUsed);
      bed.put(0x5000, level, bed.entry(0x5000, level) & ~right);
      bed.mov(Reg::kCpl, 3);
      EXPECT_EQ(bed.fresh_text(AccessKind::kWrite, 0x5000), "#PF ec=p|w|u cr2=0x5000");
      EXPECT_EQ(bed.fresh(AccessKind::kRead, 0x5000).kind,
                right == pte::kU ? OutcomeKind::kPageFault : OutcomeKind::kOk);
      bed.mov(Reg::kCpl, 0);
      EXPECT_EQ(bed.fresh(AccessKind::kWrite, 0x5000).kind,
                right == pte::kW ? OutcomeKind::kPageFault : OutcomeKind::kOk);
      bed.mov(Reg::kCr0, bed.spec.registers(0).cr0 & ~cr0::kWp);
      EXPECT_EQ(bed.fresh(AccessKind::kWrite, 0x5000).kind, OutcomeKind::kOk) << "WP=0";
      bed.mov(Reg::kCr0, bed.spec.registers(0).cr0 | cr0::kWp);
    }
  }
}

TEST_P(EveryTable, SmepAndSmapActInEveryModeWithPaging) {
  bed.map_at(0x5000, 1, kFrame | kLeafUsed);
  bed.mov(Reg::kCr4, bed.spec.registers(0).cr4 | cr4::kSmep | cr4::kSmap);
  EXPECT_EQ(bed.fresh_text(AccessKind::kFetch, 0x5000), "#PF ec=p|i cr2=0x5000");
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0x5000), "#PF ec=p cr2=0x5000");
  bed.mov(Reg::kAc, 1);
  EXPECT_EQ(bed.fresh(AccessKind::kRead, 0x5000).kind, OutcomeKind::kOk);
}

// I = 1 iff fetch and (SMEP, or CR4.PAE and NXE), SDM 3A §"Page-Fault Exceptions".
TEST(ModeRights, FetchBitOfTheErrorCode) {
  for (const Mode mode : kModesWithTables) {
    for (const bool smep : {false, true}) {
      for (const bool nxe : {false, true}) {
        ModeBed bed(mode);
        const Registers r = bed.spec.registers(0);
        ASSERT_EQ(says(bed.mov(Reg::kEfer, (r.efer & ~efer::kNxe) | (nxe ? efer::kNxe : 0))), "ok");
        bed.mov(Reg::kCr4, r.cr4 | (smep ? cr4::kSmep : 0));
        const bool shown = smep || (nxe && mode != Mode::k32Bit);
        EXPECT_EQ(bed.fresh_text(AccessKind::kFetch, 0x5000),
                  shown ? "#PF ec=i cr2=0x5000" : "#PF ec=0 cr2=0x5000")
            << name_of(mode) << " smep " << smep << " nxe " << nxe;
        EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0x5000), "#PF ec=0 cr2=0x5000");
      }
    }
  }
}

TEST(ModeRights, NoExecuteWherePaeFormatEntriesAre) {
  for (const Mode mode : {Mode::kPae, Mode::k4Level, Mode::k5Level}) {
    for (unsigned level = 1; level <= 2; ++level) {
      ModeBed bed(mode);
      bed.map_at(0x5000, 1, kFrame | kLeafUsed);
      bed.put(0x5000, level, bed.entry(0x5000, level) | pte::kXd);
      EXPECT_EQ(bed.fresh_text(AccessKind::kFetch, 0x5000), "#PF ec=p|i cr2=0x5000");
      EXPECT_EQ(bed.fresh(AccessKind::kRead, 0x5000).kind, OutcomeKind::kOk);
      bed.mov(Reg::kEfer, bed.spec.registers(0).efer & ~efer::kNxe);
      EXPECT_EQ(bed.fresh_text(AccessKind::kFetch, 0x5000), "#PF ec=p|rsvd cr2=0x5000");
    }
  }
}

TEST(ModeRights, KeysActInLongModeOnly) {
  for (const Mode mode : kModesWithTables) {
    ModeBed bed(mode);
    bed.map_at(0x5000, 1, kFrame | kLeafUsed);
    bed.mov(Reg::kCr4, bed.spec.registers(0).cr4 | cr4::kPke);
    ASSERT_EQ(says(bed.mov(Reg::kPkru, 1)), "ok") << "key 0: no access";
    const bool lives = mode == Mode::k32Bit || mode == Mode::kPae;
    EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0x5000),
              lives ? "ok gpa=0x400000" : "#PF ec=p|pk cr2=0x5000")
        << name_of(mode);
  }
}

// --- Linear addresses

TEST(ModeLinear, CanonicalByMode) {
  const struct {
    Mode mode;
    std::uint64_t gva;
    bool gp;
  } rows[] = {
      {Mode::k4Level, bit(47), true},         {Mode::k4Level, ~(bit(47) - 1), false},
      {Mode::k4Level, bit(56), true},         {Mode::k5Level, bit(47), false},
      {Mode::k5Level, bit(55), false},        {Mode::k5Level, bit(56), true},
      {Mode::k5Level, ~(bit(56) - 1), false}, {Mode::kPae, bit(47), false},
      {Mode::k32Bit, bit(63), false},         {Mode::kNone, bit(47), false},
  };
  for (const auto& row : rows) {
    ModeBed bed(row.mode);
    EXPECT_EQ(bed.fresh(AccessKind::kRead, row.gva).kind == OutcomeKind::kGp, row.gp)
        << name_of(row.mode) << std::hex << " " << row.gva;
  }
}

TEST(ModeLinear, OutsideLongModeAddressesAreTakenModulo4G) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae}) {
    ModeBed bed(mode);
    bed.map_at(0x5000, 1, kFrame | kLeafUsed);
    EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0xffff'9234'0000'5010), "ok gpa=0x400010");
    EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0x1'0000'6000), "#PF ec=0 cr2=0x6000") << "CR2 too";
    EXPECT_EQ(bed.access_ok(AccessKind::kRead, 0x1'0000'6000), "ok");
    Outcome wide = bed.fault(0x1'0000'6000, 0);
    EXPECT_EQ(says(bed.access(AccessKind::kRead, 0x1'0000'6000, wide)), "wrong-fault-address/cr2");
  }
}

TEST(ModeLinear, AnAccessThatWrapsIsUnspecified) {
  for (const Mode mode : {Mode::kNone, Mode::k32Bit, Mode::kPae}) {
    ModeBed bed(mode);
    if (mode != Mode::kNone) {
      bed.map_at(0xffff'f000, 1, kFrame | kLeafUsed);
      bed.put(0, 2, bed.table(1) | kPwua);
      if (mode == Mode::kPae) bed.put(0, 3, bed.upper(3));
      if (mode == Mode::kPae) bed.put(0, 2, bed.table(1) | kPwua);
      bed.put(0, 1, 0x600000 | kLeafUsed);
      if (mode == Mode::kPae) bed.load_pdptes();
    }
    const std::uint64_t last = 0xffff'fffe;
    const Outcome goes_on = bed.fresh(AccessKind::kRead, last, 8);
    EXPECT_EQ(says(bed.access(AccessKind::kRead, last, goes_on)), "unspecified/wrap");
    Outcome gp;
    gp.kind = OutcomeKind::kGp;
    EXPECT_EQ(says(bed.access(AccessKind::kWrite, last, gp)), "unspecified/wrap");
    if (mode == Mode::kNone) continue;
    EXPECT_EQ(to_text(bed.fresh(AccessKind::kWrite, last, 8)), "ok gpa=0x400ffe,0x600000");
    Outcome elsewhere = goes_on;
    elsewhere.gpa[1] = 0x601000;
    EXPECT_EQ(says(bed.access(AccessKind::kRead, last, elsewhere)).substr(0, 5), "wrong");
  }
  ModeBed five(Mode::k5Level);
  EXPECT_NE(says(five.access(AccessKind::kRead, 0xffff'fffe, five.fault(0xffff'fffe, 0))),
            "unspecified/wrap");
}

// --- Paging off

TEST(ModeNone, GvaIsGpaWithAllRights) {
  ModeBed bed(Mode::kNone);
  bed.mov(Reg::kCr4, cr4::kSmep | cr4::kSmap);
  bed.mov(Reg::kCpl, 3);
  for (const AccessKind kind :
       {AccessKind::kRead, AccessKind::kWrite, AccessKind::kFetch, AccessKind::kRmw}) {
    EXPECT_EQ(bed.access_ok(kind, 0x7008), "ok");
  }
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0x7008), "ok gpa=0x7008");
  EXPECT_EQ(bed.fresh_text(AccessKind::kRead, 0xff0'0000'7008), "ok gpa=0x7008");
  EXPECT_EQ(bed.fresh_text(AccessKind::kWrite, 0xfee0'0000), "mmio write gpa=0xfee00000");
  bed.mov(Reg::kCpl, 0);
  EXPECT_EQ(bed.fresh(AccessKind::kFetch, 0x7008).kind, OutcomeKind::kOk);
  EXPECT_EQ(bed.fresh(AccessKind::kWrite, 0x7ffc).gpa[1], 0x8000u);
  EXPECT_EQ(bed.fresh(AccessKind::kRead, 0x7008).path[0].count, 0u);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, 0x7008, bed.fault(0x7008, 0))),
            "spurious-fault/virtual-25");
  Outcome moved = bed.through(AccessKind::kRead, 0x7008, 0x9008);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, 0x7008, moved)), "wrong-frame/fresh");
}

// --- A and D

TEST_P(EveryTable, AccessedAndDirtyAreSetInEveryEntryThatHasThem) {
  bed.map_at(0x5000, 1, kFrame | kPwu);
  for (unsigned l = 1; l <= bed.mode().levels; ++l)
    bed.put(0x5000, l, bed.entry(0x5000, l) & ~pte::kA);
  const Outcome o = bed.fresh(AccessKind::kWrite, 0x5000);
  for (unsigned i = 0; i < o.path[0].count; ++i) {
    const bool pdpte = GetParam() == Mode::kPae && i == 0;
    EXPECT_EQ(o.path[0].entry[i] & pte::kA, pdpte ? 0 : pte::kA);
    EXPECT_EQ((o.path[0].entry[i] & pte::kD) != 0, i + 1 == o.path[0].count);
  }
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, 0x5000, o)), "ok");
  for (unsigned l = 1; l <= bed.mode().levels; ++l)
    EXPECT_EQ(bed.entry(0x5000, l), o.path[0].entry[bed.mode().levels - l]);
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, 0x5000), "ok");
}

TEST_P(EveryTable, MissingAccessedOrDirtyIsSeen) {
  for (unsigned i = 0; i < bed.mode().levels; ++i) {
    if (GetParam() == Mode::kPae && i == 0) continue;
    ModeBed each(GetParam());
    for (unsigned l = each.mode().levels; l > 1; --l) each.put(0x5000, l, each.upper(l, kPwu));
    each.put(0x5000, 1, kFrame | kPwu);
    if (GetParam() == Mode::kPae) each.load_pdptes();
    Outcome o = each.fresh(AccessKind::kWrite, 0x5000);
    o.path[0].entry[i] &= ~pte::kA;
    EXPECT_EQ(says(each.access(AccessKind::kWrite, 0x5000, o)), "accessed-dirty/accessed");
  }
  bed.map_at(0x5000, 1, kFrame | kPwua);
  EXPECT_EQ(
      says(bed.access(AccessKind::kWrite, 0x5000, bed.through(AccessKind::kWrite, 0x5000, kFrame))),
      "accessed-dirty/dirty");
}

TEST(ModeFlags, FourByteEntriesAreHalvesOfAWord) {
  ModeBed bed(Mode::k32Bit);
  bed.map_at(0x4000, 1, 0x401000 | kPwu);
  bed.map_at(0x5000, 1, 0x402000 | kPwu);
  EXPECT_EQ(bed.access_ok(AccessKind::kWrite, 0x5000), "ok");
  EXPECT_EQ(bed.entry(0x5000, 1), 0x402000 | kLeafUsed);
  EXPECT_EQ(bed.entry(0x4000, 1), 0x401000 | kPwu) << "the neighbour is as it was";
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, 0x4000), "ok");
  EXPECT_EQ(bed.entry(0x4000, 1), 0x401000 | kPwua);
  EXPECT_EQ(bed.entry(0x5000, 1), 0x402000 | kLeafUsed);
}

TEST(ModeFlags, A4MPageHasDirtyInItsPde) {
  ModeBed bed(Mode::k32Bit);
  bed.map_at(0, 2, 0x0080'0000 | kPwu | pte::kPs);
  EXPECT_EQ(bed.access_ok(AccessKind::kWrite, 0x12'3450), "ok");
  EXPECT_EQ(bed.entry(0, 2), 0x0080'0000 | kLeafUsed | pte::kPs);
}

TEST(ModeFlags, AStoreToItsOwnFourByteEntry) {
  ModeBed bed(Mode::k32Bit);
  // The page table maps itself at 0x5000; the store goes to the entry of 0x6000, then to its own.
  bed.map_at(0x5000, 1, bed.table(1) | kPwu);
  bed.size = 4;
  EXPECT_EQ(bed.access_ok(AccessKind::kWrite, 0x5018), "ok") << "the neighbour of its entry";
  EXPECT_EQ(bed.entry(0x5000, 1), bed.table(1) | kLeafUsed);
  const Outcome o = bed.fresh(AccessKind::kWrite, 0x5014);
  Outcome after = o;
  after.path[0].entry[1] = store_stamp(1) & 0xffff'ffff;
  EXPECT_EQ(says(bed.access(AccessKind::kWrite, 0x5014, after)), "ok");
  EXPECT_EQ(bed.entry(0x5000, 1), store_stamp(1) & 0xffff'ffff);
}

}  // namespace
}  // namespace twinwalk::oracle
