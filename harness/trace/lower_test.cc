#include <gtest/gtest.h>

#include "harness/trace/content.h"
#include "harness/trace/program.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kPwu = pte::kP | pte::kW | pte::kU;
constexpr std::uint64_t kPage = 4096;

Op map_op(std::uint64_t gva, std::uint64_t gpa, std::uint64_t level = 1) {
  Op op;
  op.verb = Verb::kMap;
  op.gva = gva;
  op.gpa = gpa;
  op.size = level;
  return op;
}

Op root_op(std::uint64_t cr3, std::uint8_t vcpu = 0) {
  Op op;
  op.verb = Verb::kMov;
  op.kind = static_cast<std::uint64_t>(Reg::kCr3);
  op.value = cr3;
  op.vcpu = vcpu;
  return op;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> writes(const std::vector<Op>& ops) {
  Trace trace;
  trace.ops = ops;
  Program program;
  Lowering().lower(trace, program);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> out;
  for (const Step& s : program.steps) {
    if (s.what.verb == Verb::kWrite) out.emplace_back(s.what.gpa, s.what.value);
  }
  return out;
}

using Writes = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

TEST(Lowering, MapWritesFromTheRootDown) {
  const std::uint64_t t = kTablePool;
  EXPECT_EQ(writes({map_op(0, 0x5000)}), (Writes{{t, (t + kPage) | kPwu},
                                                 {t + kPage, (t + 2 * kPage) | kPwu},
                                                 {t + 2 * kPage, (t + 3 * kPage) | kPwu},
                                                 {t + 3 * kPage, 0x5000 | kPwu}}));
}

TEST(Lowering, SecondMapWritesOnlyItsLeaf) {
  const Writes w = writes({map_op(0, 0x5000), map_op(0x1000, 0x6000)});
  ASSERT_EQ(w.size(), 5u);
  EXPECT_EQ(w[4], (std::pair{kTablePool + 3 * kPage + 8, 0x6000 | kPwu}));
}

TEST(Lowering, SameLeafIsWrittenAgain) {
  EXPECT_EQ(writes({map_op(0, 0x5000), map_op(0, 0x5000)}).size(), 5u);
}

TEST(Lowering, LargePagesEndHigherAndAlign) {
  const Writes two = writes({map_op(0x40000000, 0x2345000, 2)});
  ASSERT_EQ(two.size(), 3u);
  EXPECT_EQ(two[2], (std::pair{kTablePool + 2 * kPage, 0x2200000 | kPwu | pte::kPs}));
  const Writes one = writes({map_op(0x40000000, 0x7fff'f000, 3)});
  ASSERT_EQ(one.size(), 2u);
  EXPECT_EQ(one[1], (std::pair{kTablePool + kPage + 8, 0x4000'0000 | kPwu | pte::kPs}));
}

TEST(Lowering, SmallPageUnderFormerLargePageRewritesTheUpperEntry) {
  const Writes w = writes({map_op(0, 0x5000), map_op(0, 0x200000, 2), map_op(0, 0x5000)});
  ASSERT_EQ(w.size(), 4u + 1u + 2u);
  EXPECT_EQ(w[4], (std::pair{kTablePool + 2 * kPage, 0x200000 | kPwu | pte::kPs}));
  EXPECT_EQ(w[5], (std::pair{kTablePool + 2 * kPage, (kTablePool + 3 * kPage) | kPwu}));
}

TEST(Lowering, RootsHaveTablesOfTheirOwnAndAreNotTakenAsTables) {
  const Writes w = writes(
      {root_op(kTablePool + kPage), map_op(0, 0x5000), root_op(kInitialCr3), map_op(0, 0x5000)});
  ASSERT_EQ(w.size(), 8u);
  EXPECT_EQ(w[0].first, kTablePool + kPage);
  EXPECT_EQ(w[0].second, (kTablePool + 2 * kPage) | kPwu);
  EXPECT_EQ(w[4].first, kInitialCr3);
  EXPECT_EQ(w[4].second, (kTablePool + 5 * kPage) | kPwu);
}

TEST(Lowering, PcidAndNoFlushDoNotMakeAnotherRoot) {
  const Writes w =
      writes({map_op(0, 0x5000), root_op(kInitialCr3 | 7 | cr3::kNoFlush), map_op(0, 0x5000)});
  EXPECT_EQ(w.size(), 5u);
}

TEST(Lowering, EachVcpuHasItsOwnRoot) {
  Op second = map_op(0, 0x5000);
  second.vcpu = 1;
  const Writes w = writes({root_op(0x200000, 1), map_op(0, 0x5000), second});
  ASSERT_EQ(w.size(), 8u);
  EXPECT_EQ(w[0].first, kInitialCr3);
  EXPECT_EQ(w[4].first, 0x200000u);
}

TEST(Lowering, PoolWrapsAndEndsEvenIfAllOfItAreRoots) {
  std::vector<Op> ops;
  for (unsigned n = 0; n < kTablePoolPages; ++n) ops.push_back(root_op(kTablePool + n * kPage));
  ops.push_back(map_op(0, 0x5000));
  EXPECT_EQ(writes(ops).size(), 4u);
  ops.clear();
  for (unsigned n = 0; n < 100; ++n) ops.push_back(map_op(std::uint64_t{n} << 39, 0x5000));
  for (const auto& [gpa, value] : writes(ops)) {
    EXPECT_GE(gpa, kTablePool);
    EXPECT_LT(gpa, kTablePool + kTablePoolPages * kPage);
  }
}

TEST(Lowering, CpuBecomesOneMovAGivenRegisterInOrder) {
  Trace trace;
  Op cpu;
  cpu.verb = Verb::kCpu;
  cpu.cr0 = 1, cpu.cr3 = 0x3000, cpu.efer = 5, cpu.ac = 1;
  cpu.given = given_bit(Field::kCr0) | given_bit(Field::kCr3) | given_bit(Field::kEfer) |
              given_bit(Field::kAc);
  trace.ops = {cpu};
  Program program;
  Lowering().lower(trace, program);
  ASSERT_EQ(program.steps.size(), 4u);
  EXPECT_EQ(program.steps[0].what.reg(), Reg::kEfer);
  EXPECT_EQ(program.steps[0].what.value, 5u);
  EXPECT_EQ(program.steps[1].what.reg(), Reg::kCr3);
  EXPECT_EQ(program.steps[2].what.reg(), Reg::kCr0);
  EXPECT_EQ(program.steps[3].what.reg(), Reg::kAc);
}

TEST(Lowering, StoresWithoutAValueCarryTheirStep) {
  Trace trace;
  Op write;
  write.verb = Verb::kWrite;
  Op access;
  access.kind = static_cast<std::uint64_t>(AccessKind::kWrite);
  access.size = 4;
  Op zero = write;
  zero.given = given_bit(Field::kValue);
  trace.ops = {write, access, zero};
  Program program;
  Lowering().lower(trace, program);
  EXPECT_EQ(program.steps[0].what.value, store_stamp(0));
  EXPECT_EQ(program.steps[1].what.value, store_stamp(1) & 0xffff'ffff);
  EXPECT_EQ(program.steps[2].what.value, 0u);
}

// ---- by mode

Op mov_op(Reg reg, std::uint64_t value) {
  Op op;
  op.verb = Verb::kMov;
  op.kind = static_cast<std::uint64_t>(reg);
  op.value = value;
  return op;
}

Program lowered(Mode mode, const std::vector<Op>& ops) {
  Trace trace;
  trace.machine.mode = mode;
  trace.machine.features = feature::kAll;
  trace.ops = ops;
  Program program;
  Lowering().lower(trace, program);
  return program;
}

Writes writes_in(Mode mode, const std::vector<Op>& ops) {
  Writes out;
  for (const Step& s : lowered(mode, ops).steps) {
    if (s.what.verb == Verb::kWrite) out.emplace_back(s.what.gpa, s.what.value);
  }
  return out;
}

constexpr std::uint64_t kT = kTablePool;

TEST(LoweringByMode, WithPagingOffThereIsNothingToWrite) {
  EXPECT_TRUE(lowered(Mode::kNone, {map_op(0x400000, 0x5000)}).steps.empty());
}

TEST(LoweringByMode, EntriesOf32BitPagingHaveFourBytes) {
  const Program p = lowered(Mode::k32Bit, {map_op(0xffc0'1000, 0x5000)});
  ASSERT_EQ(p.steps.size(), 2u);
  EXPECT_EQ(p.steps[0].what.gpa, kT + 1023 * 4);
  EXPECT_EQ(p.steps[0].what.value, (kT + kPage) | kPwu);
  EXPECT_EQ(p.steps[1].what.gpa, kT + kPage + 4);
  EXPECT_EQ(p.steps[1].what.value, 0x5000 | kPwu);
  for (const Step& s : p.steps) EXPECT_EQ(s.what.size, 4u);
}

TEST(LoweringByMode, UpperBitsThatFourBytesDoNotHoldAreDropped) {
  Op op = map_op(0, 0x5000);
  op.pte = op.upper = kPwu | pte::kXd;
  EXPECT_EQ(writes_in(Mode::k32Bit, {op}),
            (Writes{{kT, (kT + kPage) | kPwu}, {kT + kPage, 0x5000 | kPwu}}));
}

TEST(LoweringByMode, LargePagesOf32BitPagingHaveFourMegabytes) {
  const Writes expected{{kT + 4, 0xffc0'0000 | 0x34u << 13 | kPwu | pte::kPs}};
  EXPECT_EQ(writes_in(Mode::k32Bit, {map_op(0x40'0000, 0x34'ffff'f000, 2)}), expected);
  EXPECT_EQ(writes_in(Mode::k32Bit, {map_op(0x40'0000, 0x34'ffff'f000, 3)}), expected);
}

TEST(LoweringByMode, PdptesGetNoRightsAndAreLoaded) {
  const Program p = lowered(Mode::kPae, {map_op(0xc020'1000, 0x5000), map_op(0xc020'2000, 0x6000)});
  ASSERT_EQ(p.steps.size(), 5u);
  EXPECT_EQ(p.steps[0].what.gpa, kT + 3 * 8);
  EXPECT_EQ(p.steps[0].what.value, (kT + kPage) | pte::kP);
  EXPECT_EQ(p.steps[1].what.gpa, kT + kPage + 8);
  EXPECT_EQ(p.steps[1].what.value, (kT + 2 * kPage) | kPwu);
  EXPECT_EQ(p.steps[2].what.gpa, kT + 2 * kPage + 8);
  EXPECT_EQ(p.steps[3].what.verb, Verb::kMov);
  EXPECT_EQ(p.steps[3].what.reg(), Reg::kCr3);
  EXPECT_EQ(p.steps[3].what.value, kInitialCr3);
  EXPECT_EQ(p.steps[4].what.gpa, kT + 2 * kPage + 16);  // no PDPTE written, none loaded
}

TEST(LoweringByMode, PdptesAreNotPresentIfTheUpperEntriesAreNot) {
  Op op = map_op(0, 0x5000);
  op.upper = pte::kW;
  EXPECT_EQ(writes_in(Mode::kPae, {op})[0], (std::pair{kT, kT + kPage}));
}

TEST(LoweringByMode, PaeHasNoPagesOf1G) {
  const Writes w = writes_in(Mode::kPae, {map_op(0, 0x4020'0000, 3)});
  ASSERT_EQ(w.size(), 2u);
  EXPECT_EQ(w[1], (std::pair{kT + kPage, 0x4020'0000 | kPwu | pte::kPs}));
}

TEST(LoweringByMode, PaeRootsLieOn32Bytes) {
  const Writes w = writes_in(Mode::kPae, {root_op(kT + 0x7f), map_op(0x4000'0000, 0x5000)});
  EXPECT_EQ(w[0].first, kT + 0x60 + 8);
}

TEST(LoweringByMode, FiveLevels) {
  const Writes w = writes_in(Mode::k5Level, {map_op(0xff01'0000'0000'0000, 0x5000)});
  ASSERT_EQ(w.size(), 5u);
  EXPECT_EQ(w[0], (std::pair{kT + 257 * 8, (kT + kPage) | kPwu}));
  EXPECT_EQ(w[4], (std::pair{kT + 4 * kPage, 0x5000 | kPwu}));
}

TEST(LoweringByMode, Only32BitsOfTheGvaCountOutsideLongMode) {
  for (const Mode mode : {Mode::k32Bit, Mode::kPae}) {
    EXPECT_EQ(writes_in(mode, {map_op(0x7'8000'1000, 0x5000)}),
              writes_in(mode, {map_op(0x8000'1000, 0x5000)}));
  }
}

TEST(LoweringByMode, FollowsRegisterWrites) {
  const Registers start = Registers{};
  // To PAE, as a guest leaves long mode and comes back to paging.
  const std::vector<Op> ops = {mov_op(Reg::kCr0, start.cr0 & ~cr0::kPg), map_op(0, 0x5000),
                               mov_op(Reg::kEfer, efer::kNxe), mov_op(Reg::kCr0, start.cr0),
                               map_op(0, 0x5000)};
  const Writes w = writes_in(Mode::k4Level, ops);
  ASSERT_EQ(w.size(), 3u);
  EXPECT_EQ(w[0].second & 0xfff, pte::kP);
}

TEST(LoweringByMode, DoesNotFollowWhatRaisesGp) {
  const Writes usual = writes_in(Mode::k4Level, {map_op(0, 0x5000)});
  for (const Op& op : {mov_op(Reg::kCr4, 0), mov_op(Reg::kCr4, cr4::kPae | cr4::kLa57),
                       mov_op(Reg::kEfer, 0), mov_op(Reg::kCr0, cr0::kPg)}) {
    EXPECT_EQ(writes_in(Mode::k4Level, {op, map_op(0, 0x5000)}), usual) << op.value;
  }
  // PCIDE=1 keeps paging on.
  EXPECT_EQ(writes_in(Mode::k4Level, {mov_op(Reg::kCr4, cr4::kPae | cr4::kPcide),
                                      mov_op(Reg::kCr0, cr0::kPe), map_op(0, 0x5000)}),
            usual);
}

TEST(LoweringByMode, HighBitsOfCr3CountAgainInLongMode) {
  const Registers start;
  Writes w =
      writes_in(Mode::k4Level, {root_op(0x1'0020'0000), mov_op(Reg::kCr0, start.cr0 & ~cr0::kPg),
                                mov_op(Reg::kCr0, start.cr0), map_op(0, 0x5000)});
  EXPECT_EQ(w[0].first, 0x1'0020'0000u);
  w = writes_in(Mode::kPae, {root_op(0x1'0020'0000), map_op(0, 0x5000)});
  EXPECT_EQ(w[0].first, 0x20'0000u);
}

TEST(LoweringByMode, HostSetsAllRegistersAtOnceOrNone) {
  Op sregs;
  sregs.verb = Verb::kSregs;
  sregs.cr4 = 0, sregs.cr3 = 0x300000;
  sregs.given = given_bit(Field::kCr4) | given_bit(Field::kCr3);
  const Writes usual = writes_in(Mode::k4Level, {map_op(0, 0x5000)});
  EXPECT_EQ(writes_in(Mode::k4Level, {sregs, map_op(0, 0x5000)}), usual);  // LMA without PAE
  sregs.efer = 0;
  sregs.given |= given_bit(Field::kEfer);
  const Writes w = writes_in(Mode::k4Level, {sregs, map_op(0, 0x5000)});
  ASSERT_EQ(w.size(), 2u);
  EXPECT_EQ(w[0].first, 0x300000u);
}

TEST(LoweringByMode, InitTurnsPagingOffAndANewVcpuStartsAsTheFirst) {
  Op init, anew;
  init.verb = Verb::kInit;
  anew.verb = Verb::kNewVcpu;
  EXPECT_TRUE(writes_in(Mode::kPae, {init, map_op(0, 0x5000)}).empty());
  EXPECT_EQ(writes_in(Mode::kPae, {init, anew, map_op(0, 0x5000)}),
            writes_in(Mode::kPae, {map_op(0, 0x5000)}));
}

TEST(LoweringByMode, BothHalvesOfAWordAreEntriesOf32BitPaging) {
  EXPECT_EQ(writes_in(Mode::k32Bit, {map_op(0, 0x5000), map_op(0x40'0000, 0x6000),
                                     map_op(0x1000, 0x7000), map_op(0x40'1000, 0x8000)}),
            (Writes{{kT, (kT + kPage) | kPwu},
                    {kT + kPage, 0x5000 | kPwu},
                    {kT + 4, (kT + 2 * kPage) | kPwu},
                    {kT + 2 * kPage, 0x6000 | kPwu},
                    {kT + kPage + 4, 0x7000 | kPwu},
                    {kT + 2 * kPage + 4, 0x8000 | kPwu}}));
}

TEST(LoweringByMode, ModesShareNoTables) {
  const Registers start;
  const Writes w = writes_in(
      Mode::k4Level, {map_op(0, 0x5000), mov_op(Reg::kCr0, start.cr0 & ~cr0::kPg),
                      mov_op(Reg::kEfer, 0), mov_op(Reg::kCr0, start.cr0), map_op(0, 0x5000)});
  ASSERT_EQ(w.size(), 7u);
  EXPECT_EQ(w[4].second, (kT + 4 * kPage) | pte::kP);
}

TEST(Lowering, IsTheSameWhenReused) {
  Trace trace;
  for (unsigned n = 0; n < 600; ++n) {
    trace.ops.push_back(map_op(std::uint64_t{n} * 0x4020'1000, 0x5000, 1 + n % 3));
  }
  Lowering lowering;
  Program first, again;
  lowering.lower(trace, first);
  lowering.lower(trace, again);
  ASSERT_EQ(first.steps.size(), again.steps.size());
  for (std::size_t i = 0; i < first.steps.size(); ++i) {
    EXPECT_EQ(first.steps[i].what.gpa, again.steps[i].what.gpa);
    EXPECT_EQ(first.steps[i].what.value, again.steps[i].what.value);
  }
}

}  // namespace
}  // namespace twinwalk
