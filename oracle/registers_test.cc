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

Machine everything() {
  Machine m;
  m.features = feature::kAll & ~feature::kLa57;
  return m;
}

TEST(Registers, WritesFromTheInitialState) {
  const Row rows[] = {
      {"same", Reg::kCr0, kCr0, Kind::kAccept},
      {"WP off", Reg::kCr0, kCr0 & ~cr0::kWp, Kind::kAccept},
      {"unnamed low bit is ignored", Reg::kCr0, kCr0 | bit(10), Kind::kAccept},
      {"bit 32", Reg::kCr0, kCr0 | bit(32), Kind::kGp},
      {"NW without CD", Reg::kCr0, kCr0 | cr0::kNw, Kind::kGp},
      {"NW with CD", Reg::kCr0, kCr0 | cr0::kNw | cr0::kCd, Kind::kAccept},
      {"PG off leaves the mode", Reg::kCr0, kCr0 & ~cr0::kPg, Kind::kLeavesMode},
      {"root", Reg::kCr3, 0x5000, Kind::kAccept},
      {"low bits are ignored without PCIDE", Reg::kCr3, 0x5fff, Kind::kAccept},
      {"highest address bit", Reg::kCr3, bit(39), Kind::kAccept},
      {"above MAXPHYADDR", Reg::kCr3, bit(40), Kind::kGp},
      {"bit 63 without PCIDE", Reg::kCr3, 0x5000 | bit(63), Kind::kGp},
      {"PAE off", Reg::kCr4, 0, Kind::kLeavesMode},
      {"all features", Reg::kCr4,
       cr4::kPae | cr4::kPse | cr4::kPge | cr4::kPcide | cr4::kSmep | cr4::kSmap | cr4::kPke |
           cr4::kMce,
       Kind::kAccept},
      {"unnamed bit", Reg::kCr4, cr4::kPae | bit(24), Kind::kGp},
      {"LA57 in long mode", Reg::kCr4, cr4::kPae | cr4::kLa57, Kind::kLeavesMode},
      {"NXE off", Reg::kEfer, kEfer & ~efer::kNxe, Kind::kAccept},
      {"LMA written as 0 is ignored", Reg::kEfer, kEfer & ~efer::kLma, Kind::kAccept},
      {"LME off", Reg::kEfer, kEfer & ~efer::kLme, Kind::kLeavesMode},
      {"unnamed bit", Reg::kEfer, kEfer | bit(20), Kind::kGp},
      {"SVME on Intel", Reg::kEfer, kEfer | efer::kSvme, Kind::kGp},
      {"PKRU without PKE", Reg::kPkru, 4, Kind::kNotThere},
      {"CPL", Reg::kCpl, 3, Kind::kAccept},
  };
  const Machine machine = everything();
  for (const Row& row : rows) {
    const RegisterWrite w = write_register(machine, initial_registers(machine), row.reg, row.value);
    EXPECT_EQ(static_cast<int>(w.kind), static_cast<int>(row.want))
        << name_of(row.reg) << ": " << row.what;
    ASSERT_NE(w.rule, nullptr);
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
}

TEST(Registers, NxeNeedsTheFeature) {
  Machine without = everything();
  without.features &= ~feature::kNx;
  EXPECT_EQ(write_register(without, initial_registers(without), Reg::kEfer, kEfer).kind, Kind::kGp);
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
