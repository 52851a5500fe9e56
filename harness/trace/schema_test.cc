#include "harness/trace/schema.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "harness/trace/outcome.h"
#include "harness/trace/print.h"
#include "harness/trace/result_line.h"
#include "harness/trace/verdict.h"

namespace twinwalk {
namespace {

std::string readme() {
  std::ifstream in(TWINWALK_SOURCE_DIR "/harness/trace/README.md");
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(Schema, ReadmeNamesEveryVerbFieldAndMachineWord) {
  const std::string text = readme();
  for (unsigned v = 0; v < static_cast<unsigned>(Verb::kCount); ++v) {
    const VerbInfo& verb = schema_of(static_cast<Verb>(v));
    const std::string name = fmt::format("`{}`", name_of(verb.verb));
    const std::string cell =
        verb.executed ? fmt::format("| {} |", name) : fmt::format("| *{}* |", name);
    const std::size_t row = text.find(cell);
    ASSERT_NE(row, std::string::npos) << cell;
    const std::string line = text.substr(row, text.find('\n', row) - row);
    for (const FieldInfo& f : verb.fields) {
      if (f.kind == FieldKind::kRegister || f.kind == FieldKind::kRegisterValue ||
          f.kind == FieldKind::kEnumWord)
        continue;
      EXPECT_NE(line.find(fmt::format("{}=", f.name)), std::string::npos) << cell << f.name;
    }
  }
  for (const MachineField& f : machine_fields()) {
    EXPECT_NE(text.find(fmt::format("`{}=`", f.name)), std::string::npos) << f.name;
    for (const BitName& n : f.names) EXPECT_NE(text.find(n.name), std::string::npos) << n.name;
  }
  for (unsigned p = 1; p < static_cast<unsigned>(Point::kCount); ++p) {
    EXPECT_NE(text.find(name_of(static_cast<Point>(p))), std::string::npos);
  }
}

// The schema's names and name_of() are two tables: they agree.
TEST(Schema, NamesAgreeWithTheEnumerations) {
  for (const FieldInfo& f : schema_of(Verb::kAccess).fields) {
    if (f.id != Field::kKind) continue;
    for (const BitName& n : f.names) EXPECT_EQ(n.name, name_of(static_cast<AccessKind>(n.mask)));
  }
  for (const FieldInfo& f : schema_of(Verb::kWrite).fields) {
    if (f.id != Field::kBy) continue;
    for (const BitName& n : f.names) EXPECT_EQ(n.name, name_of(static_cast<Writer>(n.mask)));
  }
  for (const BitName& n : schema_of(Verb::kMov).fields[0].names) {
    EXPECT_EQ(n.name, name_of(static_cast<Reg>(n.mask)));
  }
  for (const MachineField& f : machine_fields()) {
    for (const BitName& n : f.names) {
      if (f.name == "core") {
        EXPECT_EQ(n.name, name_of(static_cast<Dimension>(n.mask)));
      }
      if (f.name == "nested") {
        EXPECT_EQ(n.name, name_of(static_cast<Nesting>(n.mask)));
      }
      if (f.name == "vendor") {
        EXPECT_EQ(n.name, name_of(static_cast<Vendor>(n.mask)));
      }
      if (f.name == "tlb") {
        EXPECT_EQ(n.name, name_of(static_cast<TlbPolicy>(n.mask)));
      }
    }
  }
}

TEST(Schema, FallbacksAreLegalAndFieldsAreNamedOnce) {
  for (unsigned v = 0; v < static_cast<unsigned>(Verb::kCount); ++v) {
    std::uint32_t seen = 0;
    for (const FieldInfo& f : schema_of(static_cast<Verb>(v)).fields) {
      EXPECT_FALSE(seen & given_bit(f.id)) << f.name;
      seen |= given_bit(f.id);
      if (f.presence != Presence::kRequired) {
        EXPECT_TRUE(legal(f, f.fallback)) << f.name;
      }
    }
  }
}

TEST(Schema, MakeLegalGivesLegalValuesAndKeepsThem) {
  for (unsigned v = 0; v < static_cast<unsigned>(Verb::kCount); ++v) {
    for (const FieldInfo& f : schema_of(static_cast<Verb>(v)).fields) {
      for (std::uint64_t n = 0; n < 300; ++n) {
        for (const std::uint64_t value : {n, ~n, n << 32}) {
          EXPECT_TRUE(legal(f, make_legal(f, value))) << f.name << " " << value;
          if (legal(f, value)) {
            EXPECT_EQ(make_legal(f, value), value);
          }
        }
      }
    }
  }
  for (const MachineField& f : machine_fields()) {
    for (std::uint64_t n = 0; n < 70000; ++n)
      ASSERT_TRUE(legal(f, make_legal(f, n))) << f.name << n;
  }
}

TEST(Schema, EveryFieldOfOpIsReachable) {
  std::uint32_t seen = 0;
  for (unsigned v = 0; v < static_cast<unsigned>(Verb::kCount); ++v) {
    for (const FieldInfo& f : schema_of(static_cast<Verb>(v)).fields) seen |= given_bit(f.id);
  }
  EXPECT_EQ(seen, (std::uint32_t{1} << kFields) - 1);
}

TEST(Names, AreThereForEveryEnumerator) {
  for (unsigned c = 0; c < static_cast<unsigned>(DivergenceClass::kCount); ++c) {
    EXPECT_NE(name_of(static_cast<DivergenceClass>(c)), "?");
    EXPECT_NE(name_of(static_cast<DivergenceClass>(c)), "");
  }
  EXPECT_EQ(name_of(DivergenceClass::kHang), "hang");
  EXPECT_EQ(name_of(DivergenceClass::kTableFreedInUse), "table-freed-in-use");
  EXPECT_EQ(name_of(Complaint::kTrap), "trap");
  EXPECT_EQ(name_of(SkipReason::kHostLacksFeature), "host-lacks-feature");
  EXPECT_EQ(name_of(Verb::kInvvpid), "invvpid");
  EXPECT_EQ(name_of(Verb::kDirtyGet), "dirty-get");
  EXPECT_EQ(name_of(Point::kAfterUnlock), "after-unlock");
}

TEST(Machine, ModeFollowsTheControlBits) {
  const Registers r = initial_registers(Machine{});
  EXPECT_EQ(mode_of(r.cr0, r.cr4, r.efer), Mode::k4Level);
  EXPECT_EQ(mode_of(r.cr0 & ~cr0::kPg, r.cr4, r.efer), Mode::kNone);
  EXPECT_EQ(mode_of(r.cr0, r.cr4, 0), Mode::kPae);
  EXPECT_EQ(mode_of(r.cr0, 0, 0), Mode::k32Bit);
  EXPECT_EQ(mode_of(r.cr0, r.cr4 | cr4::kLa57, r.efer), Mode::k5Level);
  Machine no_nx;
  no_nx.features &= ~feature::kNx;
  EXPECT_EQ(initial_registers(no_nx).efer & efer::kNxe, 0u);
}

TEST(Text, OfOutcomes) {
  Outcome o;
  EXPECT_EQ(to_text(o), "done");
  o.kind = OutcomeKind::kOk;
  o.gpa[0] = 0x5ffc, o.gpa[1] = 0x7000, o.value = 0x12;
  EXPECT_EQ(to_text(o), "ok gpa=0x5ffc,0x7000 value=0x12");
  Outcome fault;
  fault.kind = OutcomeKind::kPageFault;
  fault.error_code = pfec::kP | pfec::kW;
  fault.cr2 = 0xffff'9234'0000'0000;
  EXPECT_EQ(to_text(fault), "#PF ec=p|w cr2=0xffff923400000000");
  fault.error_code = 0;
  EXPECT_EQ(to_text(fault), "#PF ec=0 cr2=0xffff923400000000");
  Outcome mmio;
  mmio.kind = OutcomeKind::kMmio;
  mmio.write = true;
  mmio.gpa[0] = 0x4000'0000;
  EXPECT_EQ(to_text(mmio), "mmio write gpa=0x40000000");
  Outcome skip;
  skip.kind = OutcomeKind::kSkip;
  skip.reason = SkipReason::kNestedNotSupported;
  EXPECT_EQ(to_text(skip), "skip nested-not-supported");
}

TEST(Text, OfBits) {
  EXPECT_EQ(bits_text(0, cr0::kNames), "0");
  EXPECT_EQ(bits_text(cr0::kPe | cr0::kPg | bit(60), cr0::kNames), "0x1000000000000000|pe|pg");
  EXPECT_EQ(entry_text(0), "0");
  EXPECT_EQ(entry_text(std::uint64_t{9} << pte::kPkeyShift), "pk9");
  EXPECT_EQ(entry_text(0x1000 | pte::kP | pte::kXd), "0x1000|p|xd");
}

TEST(Json, KeysInSchemaOrderAndNoBytesThatAreNotUtf8) {
  ResultLine line;
  line.trace = "a\xff\"b";
  line.op = 3;
  line.cls = "missed-fault";
  EXPECT_EQ(to_json(line),
            "{\"trace\":\"a\xEF\xBF\xBD\\\"b\",\"op\":3,\"vcpu\":0,\"verb\":\"\",\"subject\":\"\","
            "\"profile\":\"\","
            "\"verdict\":\"\",\"class\":\"missed-fault\",\"field\":\"\",\"got\":\"\",\"allowed\":"
            "\"\",\"rule\":\"\"}");
  RunSummary summary;
  summary.traces = 2;
  EXPECT_EQ(
      to_json(summary),
      "{\"summary\":{\"traces\":2,\"ops\":0,\"checks\":0,\"agree\":0,\"diverge\":0,\"skip\":0,"
      "\"unspecified\":0,\"unicorn_checks\":0}}");
}

}  // namespace
}  // namespace twinwalk
