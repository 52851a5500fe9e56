// The fresh walk through both dimensions, held against the manual's tables.

#include <gtest/gtest.h>

#include "oracle/nested_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr AccessKind kEveryKind[] = {AccessKind::kRead, AccessKind::kWrite, AccessKind::kFetch,
                                     AccessKind::kRmw};

// SDM 3C §"EPT Misconfigurations" and §"EPT Violations", row by row.
struct EptRow {
  std::uint64_t rwx;
  const char* read;
  const char* write;
  const char* fetch;
};
constexpr const char* kOk = "ok";
constexpr const char* kBad = "ept-misconfig";

TEST(EptWalk, EveryTripleOfRightsAtEveryLevel) {
  // What kind of access passes, and what bits 5:3 say where one does not.
  constexpr EptRow kRows[] = {
      {0, "", "", ""},
      {ept::kR, kOk, "|r", "|r"},
      {ept::kW, kBad, kBad, kBad},
      {ept::kR | ept::kW, kOk, kOk, "|r|w"},
      {ept::kX, "|x", "|x", kOk},  // execute-only
      {ept::kR | ept::kX, kOk, "|r|x", kOk},
      {ept::kW | ept::kX, kBad, kBad, kBad},
      {kRwx, kOk, kOk, kOk},
  };
  for (unsigned level = 1; level <= 4; ++level) {
    for (const EptRow& row : kRows) {
      Machine m = bare_machine(Nesting::kEpt);
      m.maxphyaddr = m.host_maxphyaddr = 48;
      NestedBed bed(m);
      // An own path for the page under test, so that the guest's tables stay reachable.
      const std::uint64_t far = 0x12345600000;
      bed.put_nested(far, 4, 0x171000 | kRwx);
      bed.spec.write_word(0x171000 + (far >> 30 & 511) * 8, 0x172000 | kRwx);
      bed.spec.write_word(0x172000 + (far >> 21 & 511) * 8, 0x173000 | kRwx);
      bed.spec.write_word(0x173000 + (far >> 12 & 511) * 8, NestedBed::kFrame | kRwxWb);
      const std::uint64_t at = level == 4   ? bed.nested_at(far, 4)
                               : level == 3 ? 0x171000 + (far >> 30 & 511) * 8
                               : level == 2 ? 0x172000 + (far >> 21 & 511) * 8
                                            : 0x173000 + (far >> 12 & 511) * 8;
      bed.spec.write_word(at, (bed.spec.read_word(at) & ~kRwx) | row.rwx);
      bed.map_guest(far | kLeafUsed);
      bed.enter();
      const auto want = [&](const char* says, const char* tried) -> std::string {
        if (says == kOk) return "ok gpa=0x3000000";
        if (says == kBad) return "ept-misconfig gpa=0x12345600000";
        return std::string("ept-violation qual=") + tried + says +
               "|gva|final|gu|gw gpa=0x12345600000 gva=0x400000";
      };
      EXPECT_EQ(bed.now(AccessKind::kRead), want(row.read, "read")) << level << " " << row.rwx;
      EXPECT_EQ(bed.now(AccessKind::kWrite), want(row.write, "write")) << level << " " << row.rwx;
      EXPECT_EQ(bed.now(AccessKind::kFetch), want(row.fetch, "fetch")) << level << " " << row.rwx;
    }
  }
}

TEST(EptWalk, ExecuteOnlyNeedsSupport) {
  Machine m = bare_machine(Nesting::kEpt);
  m.tdp &= ~tdp::kExecOnly;
  NestedBed bed(m);
  bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | ept::kX | ept::kWb);
  bed.map_guest();
  bed.enter();
  EXPECT_EQ(bed.now(AccessKind::kFetch), "ept-misconfig gpa=0x600000");
}

TEST(EptWalk, MemoryTypesOfALeaf) {
  for (unsigned type = 0; type < 8; ++type) {
    NestedBed bed(Nesting::kEpt);
    bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | kRwx | type << 3);
    bed.map_guest();
    bed.enter();
    const bool reserved = type == 2 || type == 3 || type == 7;
    EXPECT_EQ(bed.now(AccessKind::kRead),
              reserved ? "ept-misconfig gpa=0x600000" : "ok gpa=0x3000000")
        << type;
  }
}

// Bits of an entry that are reserved, by what the entry is. SDM 3C, tables "Format of an EPT ...".
TEST(EptWalk, ReservedBits) {
  struct Row {
    unsigned level;
    bool leaf;
    std::uint64_t reserved, ignored;
  };
  const std::uint64_t beyond = bit(40) | bit(51);
  const Row rows[] = {
      {4, false, beyond | bit(3) | bit(6) | bit(7), bit(8) | bit(9) | bit(11) | bit(52) | bit(62)},
      {3, false, beyond | bit(3) | bit(4) | bit(5) | bit(6), bit(9) | bit(10) | bit(52) | bit(63)},
      {2, false, beyond | bit(3) | bit(6), bit(9) | bit(11) | bit(62)},
      {2, true, beyond | bit(12) | bit(20), bit(6) | bit(10) | bit(57)},
      {1, true, beyond, bit(6) | bit(7) | bit(10) | bit(11) | bit(61)},
  };
  for (const Row& row : rows) {
    for (unsigned b = 3; b < 64; ++b) {
      if (!((row.reserved | row.ignored) >> b & 1)) continue;
      NestedBed bed(Nesting::kEpt);
      if (row.leaf && row.level == 2)
        bed.put_nested(NestedBed::kPage, 2, NestedBed::kFrame | bed.large());
      const std::uint64_t at = bed.nested_at(NestedBed::kPage, row.level);
      bed.spec.write_word(at, bed.spec.read_word(at) | bit(b));
      bed.map_at(NestedBed::kGva, 1, NestedBed::kPage | kLeafUsed);
      bed.enter();
      // The tables of the guest share the entries at levels 4 and 3: it is one of those that exits.
      const std::string now = bed.now(AccessKind::kRead);
      EXPECT_EQ(now.starts_with("ept-misconfig"), (row.reserved >> b & 1) != 0)
          << "level " << row.level << " bit " << b << ": " << now;
    }
  }
}

TEST(EptWalk, BitsOfAnEntryThatIsNotPresentAreIgnored) {
  NestedBed bed(Nesting::kEpt);
  bed.put_nested(NestedBed::kPage, 1, ~kRwx);
  bed.map_guest();
  bed.enter();
  EXPECT_EQ(bed.now(AccessKind::kRead),
            "ept-violation qual=read|gva|final|gu|gw gpa=0x600000 gva=0x400000");
}

TEST(EptWalk, LargePagesBySupport) {
  for (const bool supported : {true, false}) {
    Machine m = bare_machine(Nesting::kEpt);
    if (!supported) m.tdp &= ~tdp::k1G;
    NestedBed bed(m);
    const std::uint64_t far = 0x7fc0000000;  // in the second gigabyte of the last PDPTE's
    bed.put_nested(far, 3, 0x40000000 * 0 | bed.large());
    bed.map_guest((far + 0x5000) | kLeafUsed);
    bed.enter();
    EXPECT_EQ(bed.now(AccessKind::kRead),
              supported ? "ok gpa=0x5000" : "ept-misconfig gpa=0x7fc0005000");
  }
  for (const bool supported : {true, false}) {
    Machine m = bare_machine(Nesting::kEpt);
    if (!supported) m.tdp &= ~tdp::k2M;
    NestedBed bed(m);
    if (!supported) {
      // The guest's tables by 4K pages.
      bed.put_nested(0, 2, 0x170000 | kRwx);
      for (std::uint64_t p = 0; p < 512; ++p)
        bed.spec.write_word(0x170000 + p * 8, p << 12 | kRwxWb);
    }
    bed.put_nested(NestedBed::kPage, 2, NestedBed::kFrame | bed.large());
    bed.map_guest((NestedBed::kPage + 0x5000) | kLeafUsed);
    bed.enter();
    EXPECT_EQ(bed.now(AccessKind::kRead),
              supported ? "ok gpa=0x3005000" : "ept-misconfig gpa=0x605000");
  }
}

TEST(EptWalk, RightsAreDecidedAfterTheWholeWalk) {
  // A leaf that is misconfigured below an entry that does not let the access pass.
  NestedBed bed(Nesting::kEpt);
  bed.put_nested(NestedBed::kPage, 2, bed.nested_table_at(1) | ept::kR);
  bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | ept::kW | ept::kWb);
  bed.map_guest();
  bed.enter();
  EXPECT_EQ(bed.now(AccessKind::kWrite), "ept-misconfig gpa=0x600000");
}

TEST(EptWalk, ModeBasedExecution) {
  for (const bool user : {false, true}) {
    for (const std::uint64_t x : {std::uint64_t{0}, ept::kX, ept::kUx, ept::kX | ept::kUx}) {
      Machine m = bare_machine(Nesting::kEpt);
      m.tdp |= tdp::kMbec;
      NestedBed bed(m);
      for (unsigned l = 4; l > 1; --l)
        bed.put_nested(NestedBed::kPage, l, bed.nested(NestedBed::kPage, l) | ept::kUx);
      bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | ept::kR | ept::kWb | x);
      bed.map_guest(NestedBed::kPage | (user ? kLeafUsed : kLeafUsed & ~pte::kU));
      bed.enter();
      const bool passes = x & (user ? ept::kUx : ept::kX);
      const std::string bits = std::string(x & ept::kX ? "|x" : "") + (x & ept::kUx ? "|ux" : "");
      EXPECT_EQ(bed.now(AccessKind::kFetch), passes ? "ok gpa=0x3000000"
                                                    : "ept-violation qual=fetch|r" + bits +
                                                          "|gva|final|" + (user ? "gu|" : "") +
                                                          "gw gpa=0x600000 gva=0x400000");
    }
  }
  // Bit 10 alone makes an entry present, and without R it is a misconfiguration or execute-only.
  for (const bool xo : {true, false}) {
    Machine m = bare_machine(Nesting::kEpt);
    m.tdp |= tdp::kMbec;
    if (!xo) m.tdp &= ~tdp::kExecOnly;
    NestedBed bed(m);
    for (unsigned l = 4; l > 1; --l)
      bed.put_nested(NestedBed::kPage, l, bed.nested(NestedBed::kPage, l) | ept::kUx);
    bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | ept::kUx | ept::kWb);
    bed.map_guest();
    bed.enter();
    EXPECT_EQ(bed.now(AccessKind::kFetch), xo ? "ok gpa=0x3000000" : "ept-misconfig gpa=0x600000");
  }
}

TEST(EptWalk, GuestTablesAreWrittenWithFlagsAndReadWithout) {
  for (const bool flags : {true, false}) {
    for (const Mode mode : {Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level}) {
      NestedBed bed(Nesting::kEpt, mode);
      bed.map_guest();
      // The guest's lowest table, which is full of used entries, moves to a read-only page.
      const std::uint64_t table = 0x601000;
      bed.put_nested(table, 1, bed.table(1) | ept::kR | ept::kWb);
      bed.put(NestedBed::kGva, 2, table | kPwua);
      bed.enter(flags);
      const std::uint64_t gpa = table + (bed.at(NestedBed::kGva, 1) & 0xfff);
      char want[128];
      std::snprintf(want, sizeof want, "ept-violation qual=read|write|r|gva gpa=%#llx gva=0x400000",
                    static_cast<unsigned long long>(gpa));
      EXPECT_EQ(bed.now(AccessKind::kRead), flags ? want : "ok gpa=0x3000000") << name_of(mode);
    }
  }
}

// With EPT's flags off the processor's own update of A or D in a read-only guest table is a write.
TEST(EptWalk, UpdatesOfGuestFlagsAreWrites) {
  NestedBed bed(Nesting::kEpt);
  bed.map_guest(NestedBed::kPage | kPwua);  // D is clear
  const std::uint64_t table = 0x601000;
  bed.put_nested(table, 1, bed.table(1) | ept::kR | ept::kWb);
  bed.put(NestedBed::kGva, 2, table | kPwua);
  bed.enter(false);
  EXPECT_EQ(bed.now(AccessKind::kRead), "ok gpa=0x3000000");
  EXPECT_EQ(bed.now(AccessKind::kWrite),
            "ept-violation qual=write|r|gva gpa=0x601000 gva=0x400000");
  // Bit 0 is open.
  Outcome o = bed.violation(eqx::kWrite | eqx::kRead | eqx::kReadable | eqx::kGvaValid, table,
                            NestedBed::kGva);
  EXPECT_EQ(bed.ends(AccessKind::kWrite, o), "ok");
}

TEST(EptWalk, PageFaultsAndExitsComeInTheOrderOfTheWalk) {
  NestedBed bed(Nesting::kEpt);
  bed.put_nested(NestedBed::kPage, 1, 0);
  bed.map_guest(NestedBed::kPage | pte::kP | pte::kA);
  bed.enter();
  // The guest's rights come before the EPT entries of the address itself.
  EXPECT_EQ(bed.now(AccessKind::kWrite), "#PF ec=p|w cr2=0x400000");
  EXPECT_EQ(bed.now(AccessKind::kRead),
            "ept-violation qual=read|gva|final gpa=0x600000 gva=0x400000");
  // A guest entry that is not present hides what is behind it, an EPT entry what it would hold.
  bed.put(NestedBed::kGva, 3, 0);
  EXPECT_EQ(bed.now(AccessKind::kRead), "#PF ec=0 cr2=0x400000");
  bed.put_nested(0, 2, 0);
  EXPECT_EQ(bed.now(AccessKind::kRead),
            "ept-violation qual=read|write|gva gpa=0x100000 gva=0x400000");
}

TEST(EptWalk, PagingOffTranslatesTheLinearAddress) {
  NestedBed bed(Nesting::kEpt, Mode::kNone);
  bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | ept::kR | ept::kWb);
  bed.enter();
  EXPECT_EQ(bed.now(AccessKind::kRead, NestedBed::kPage), "ok gpa=0x3000000");
  EXPECT_EQ(bed.now(AccessKind::kWrite, NestedBed::kPage),
            "ept-violation qual=write|r|gva|final|gu|gw gpa=0x600000 gva=0x600000");
}

TEST(EptWalk, AdvancedInformationIsTheGuests) {
  struct Row {
    std::uint64_t leaf;
    const char* bits;
  };
  const Row rows[] = {{kPwua, "gu|gw"},
                      {kPwua & ~pte::kU, "gw"},
                      {kPwua & ~pte::kW, "gu"},
                      {kPwua | pte::kXd, "gu|gw|gxd"}};
  for (const Row& row : rows) {
    NestedBed bed(Nesting::kEpt);
    bed.put_nested(NestedBed::kPage, 1, 0);
    bed.map_guest(NestedBed::kPage | row.leaf);
    bed.enter();
    EXPECT_EQ(bed.now(AccessKind::kRead), std::string("ept-violation qual=read|gva|final|") +
                                              row.bits + " gpa=0x600000 gva=0x400000");
  }
  // Without it the bits are undefined.
  Machine m = bare_machine(Nesting::kEpt);
  m.tdp &= ~tdp::kAdvanced;
  NestedBed bed(m);
  bed.put_nested(NestedBed::kPage, 1, 0);
  bed.map_guest();
  bed.enter();
  const std::uint64_t base = eqx::kRead | eqx::kGvaValid | eqx::kFinal;
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.violation(base | eqx::kGuestNx | eqx::kUserExecutable,
                                                      NestedBed::kPage, NestedBed::kGva)),
            "ok");
  EXPECT_EQ(bed.ends(AccessKind::kRead,
                     bed.violation(base | eqx::kReadable, NestedBed::kPage, NestedBed::kGva)),
            "wrong-error-code/ept-qualification");
}

TEST(EptWalk, ReadModifyWriteLeavesBit0Open) {
  NestedBed bed(Nesting::kEpt);
  bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | ept::kR | ept::kWb);
  bed.map_guest();
  bed.enter();
  const std::uint64_t base = eqx::kReadable | eqx::kGvaValid | eqx::kFinal | eqx::kGuestUser |
                             eqx::kGuestWritable | eqx::kWrite;
  for (const std::uint64_t read : {std::uint64_t{0}, eqx::kRead}) {
    EXPECT_EQ(
        bed.ends(AccessKind::kRmw, bed.violation(base | read, NestedBed::kPage, NestedBed::kGva)),
        "ok");
  }
  EXPECT_EQ(bed.ends(AccessKind::kRmw, bed.violation((base & ~eqx::kWrite) | eqx::kRead,
                                                     NestedBed::kPage, NestedBed::kGva)),
            "wrong-error-code/ept-qualification");
}

TEST(EptWalk, FlagsOfBothDimensions) {
  for (const AccessKind kind : {AccessKind::kRead, AccessKind::kWrite}) {
    NestedBed bed(Nesting::kEpt);
    bed.map_guest(NestedBed::kPage | kPwu);
    bed.enter();
    EXPECT_EQ(says(bed.access_fresh(kind, NestedBed::kGva)), "ok");
    const bool store = kind == AccessKind::kWrite;
    EXPECT_EQ(bed.entry(NestedBed::kGva, 1) & (pte::kA | pte::kD),
              store ? pte::kA | pte::kD : pte::kA);
    // The page of the guest's tables was written, by the walk.
    EXPECT_EQ(bed.nested(0, 2) & (ept::kA | ept::kD), ept::kA | ept::kD);
    EXPECT_EQ(bed.nested(NestedBed::kPage, 1) & (ept::kA | ept::kD),
              store ? ept::kA | ept::kD : ept::kA);
    for (unsigned l = 2; l <= 4; ++l) EXPECT_TRUE(bed.nested(NestedBed::kPage, l) & ept::kA) << l;
  }
  NestedBed bed(Nesting::kEpt);
  bed.map_guest(NestedBed::kPage | kPwu);
  bed.enter(false);
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kWrite, NestedBed::kGva)), "ok");
  for (unsigned l = 1; l <= 4; ++l) EXPECT_FALSE(bed.nested(NestedBed::kPage, l) & ept::kA) << l;
}

// The access crosses into what is not canonical; its first page may have been walked by then.
TEST(EptWalk, TheCanonicalHalfMayHaveBeenWalkedBeforeTheGeneralProtection) {
  constexpr std::uint64_t kEdge = 0x7ffffffff000, kAccess = kEdge + 0xffc;
  for (const Nesting nesting : {Nesting::kEpt, Nesting::kNpt}) {
    NestedBed bed(nesting);
    bed.map_at(kEdge, 1, NestedBed::kPage | kPwu);
    bed.enter();
    Outcome gp;
    gp.kind = OutcomeKind::kGp;
    EXPECT_EQ(bed.ends(AccessKind::kRead, gp, kAccess), "ok");
    const std::uint64_t at = bed.at(kEdge, 1);
    EXPECT_EQ(bed.spec.open_bits(at, bed.spec.read_word(at)), pte::kA);
    const std::uint64_t flags = nesting == Nesting::kEpt ? ept::kA : pte::kA;
    const std::uint64_t leaf = bed.nested_at(NestedBed::kPage, 1);
    EXPECT_EQ(bed.spec.open_bits(leaf, bed.spec.read_word(leaf)), flags);
  }
}

TEST(EptWalk, LoadsOfPdptesAreReadsWithoutALinearAddress) {
  for (const bool flags : {true, false}) {
    NestedBed bed(Nesting::kEpt, Mode::kPae);
    bed.map_guest();
    bed.enter(flags);
    // From a read-only page they succeed, from one that is not readable they exit.
    bed.put_nested(0x602000, 1, 0x100000 | ept::kR | ept::kWb);
    EXPECT_EQ(says(bed.mov(Reg::kCr3, 0x602000)), "ok");
    EXPECT_EQ(bed.now(AccessKind::kRead), "ok gpa=0x3000000");
    bed.put_nested(0x603000, 1, 0x100000 | ept::kX | ept::kWb);
    Op op;
    op.verb = Verb::kMov;
    op.kind = static_cast<std::uint64_t>(Reg::kCr3);
    op.value = 0x603000;
    EXPECT_EQ(says(bed.step(op, bed.violation(eqx::kRead | eqx::kExecutable, 0x603000, 0))), "ok");
    EXPECT_EQ(bed.spec.registers(0).cr3, 0x602000u);
    EXPECT_EQ(says(bed.step(op, Outcome{})), "missed-fault/ept-rights");
  }
}

TEST(EptWalk, FiveLevels) {
  Machine m = bare_machine(Nesting::kEpt);
  m.host_levels = 5;
  m.maxphyaddr = m.host_maxphyaddr = 52;
  NestedBed bed(m);
  bed.map_guest();
  EXPECT_EQ(bed.enter(), "ok");
  EXPECT_EQ(bed.now(AccessKind::kRead), "ok gpa=0x3000000");
  bed.put_nested(0, 5, bed.nested(0, 5) | ept::kPs);
  EXPECT_EQ(bed.now(AccessKind::kRead), "ept-misconfig gpa=0x100000");
}

// --- NPT. APM 2 §"Nested versus Guest Page Faults, Fault Ordering".

TEST(NptWalk, ErrorCodes) {
  struct Row {
    std::uint64_t leaf;
    AccessKind kind;
    std::uint64_t code;
  };
  const Row rows[] = {
      {0, AccessKind::kRead, 0x1'0000'0004},
      {0, AccessKind::kWrite, 0x1'0000'0006},
      {0, AccessKind::kFetch, 0x1'0000'0014},
      {kPwu & ~pte::kW, AccessKind::kWrite, 0x1'0000'0007},
      {kPwu & ~pte::kU, AccessKind::kRead, 0x1'0000'0005},
      {kPwu | pte::kXd, AccessKind::kFetch, 0x1'0000'0015},
      {kPwu | bit(51), AccessKind::kRead, 0x1'0000'000d},
      {kPwu | bit(51), AccessKind::kRmw, 0x1'0000'000f},
  };
  for (unsigned levels = 3; levels <= 5; ++levels) {
    for (const Row& row : rows) {
      Machine m = bare_machine(Nesting::kNpt);
      m.host_levels = static_cast<std::uint8_t>(levels);
      NestedBed bed(m);
      bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | row.leaf);
      bed.map_guest();
      EXPECT_EQ(bed.enter(), "ok");
      EXPECT_EQ(bed.ends(row.kind, bed.nested_fault(row.code, NestedBed::kPage)), "ok")
          << std::hex << row.leaf << " " << bed.now(row.kind);
    }
  }
}

TEST(NptWalk, TableAccessesAreUserWrites) {
  struct Row {
    std::uint64_t leaf, code;
  };
  const Row rows[] = {{0, 0x2'0000'0006},
                      {kPwu & ~pte::kW, 0x2'0000'0007},
                      {kPwu & ~pte::kU, 0x2'0000'0007},
                      {kPwu | bit(51), 0x2'0000'000f},
                      {kPwu | pte::kXd, 0}};
  for (const Row& row : rows) {
    for (const AccessKind kind : kEveryKind) {
      NestedBed bed(Nesting::kNpt);
      bed.map_guest();
      const std::uint64_t table = 0x601000;
      bed.put_nested(table, 1, bed.table(1) | row.leaf);
      bed.put(NestedBed::kGva, 2, table | kPwua);
      bed.enter();
      if (row.code == 0) {
        EXPECT_TRUE(bed.now(kind).starts_with("ok")) << bed.now(kind);
      } else {
        EXPECT_EQ(bed.ends(kind, bed.nested_fault(row.code, table)), "ok") << bed.now(kind);
      }
    }
  }
}

TEST(NptWalk, WithoutNxeXdIsReservedAndFetchesSayNothing) {
  Machine m = bare_machine(Nesting::kNpt);
  m.tdp &= ~tdp::kNxe;
  NestedBed bed(m);
  bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | kPwu | pte::kXd);
  bed.map_guest();
  bed.enter();
  EXPECT_EQ(bed.now(AccessKind::kRead), "#NPF code=p|u|rsvd|final gpa=0x600000");
  bed.put_nested(NestedBed::kPage, 1, 0);
  EXPECT_EQ(bed.now(AccessKind::kFetch), "#NPF code=u|final gpa=0x600000");
}

TEST(NptWalk, UpperEntriesHaveReservedBitsToo) {
  for (const std::uint64_t b : {pte::kPs, pte::kG}) {
    NestedBed bed(Nesting::kNpt);
    bed.put_nested(0, 4, bed.nested(0, 4) | b);
    bed.map_guest();
    bed.enter();
    EXPECT_EQ(bed.now(AccessKind::kRead), "#NPF code=p|w|u|rsvd|table gpa=0x100000");
  }
}

TEST(NptWalk, PdptesOfAPaeGuestAreReadOnDemand) {
  NestedBed bed(Nesting::kNpt, Mode::kPae);
  bed.map_guest();
  bed.enter();
  EXPECT_EQ(bed.now(AccessKind::kRead), "ok gpa=0x3000000");
  bed.put_nested(0, 2, 0);
  EXPECT_EQ(bed.now(AccessKind::kRead), "#NPF code=w|u|table gpa=0x100000");
}

TEST(NptWalk, FlagsOfBothDimensions) {
  NestedBed bed(Nesting::kNpt);
  bed.map_guest(NestedBed::kPage | kPwu);
  bed.enter();
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kRead, NestedBed::kGva)), "ok");
  EXPECT_EQ(bed.nested(0, 2) & (pte::kA | pte::kD), pte::kA | pte::kD);
  EXPECT_EQ(bed.nested(NestedBed::kPage, 1) & (pte::kA | pte::kD), pte::kA);
}

// --- The hypervisor's instructions.

TEST(VmEntry, TakesALegalEptpOnly) {
  NestedBed bed(Nesting::kEpt);
  const std::uint64_t good = bed.eptp();
  EXPECT_EQ(bed.enter(good), "ok");
  EXPECT_EQ(bed.enter(good & ~eptp::kTypeMask), "ok");
  const std::uint64_t bad[] = {good & ~std::uint64_t{4},  // memory type 2
                               good | 1,
                               good & ~eptp::kLevelsMask,
                               (good & ~eptp::kLevelsMask) | eptp::k5Level,
                               good | bit(7),
                               good | bit(8),
                               good | bit(11),
                               good | bit(40),
                               good | bit(63)};
  for (const std::uint64_t eptp : bad) {
    EXPECT_EQ(bed.enter(eptp, 1, OutcomeKind::kVmFail), "ok") << std::hex << eptp;
    EXPECT_EQ(bed.enter(eptp, 1, OutcomeKind::kDone), "wrong-exception/eptp") << std::hex << eptp;
  }
  Machine m = bare_machine(Nesting::kEpt);
  m.tdp &= ~tdp::kAd;
  NestedBed without(m);
  EXPECT_EQ(without.enter(good, 1, OutcomeKind::kVmFail), "ok");
  EXPECT_EQ(without.enter(good & ~eptp::kAd), "ok");
}

TEST(VmEntry, InveptAndInvvpidFailOnBadOperands) {
  NestedBed bed(Nesting::kEpt);
  constexpr auto kFail = OutcomeKind::kVmFail;
  EXPECT_EQ(bed.invept(0, bed.eptp(), kFail), "ok");
  EXPECT_EQ(bed.invept(1, bed.eptp()), "ok");
  EXPECT_EQ(bed.invept(1, bed.eptp() | 1, kFail), "ok");
  EXPECT_EQ(bed.invept(2, 1), "ok");
  EXPECT_EQ(bed.invept(3, bed.eptp(), kFail), "ok");
  for (unsigned type = 0; type < 4; ++type) {
    EXPECT_EQ(bed.invvpid(type, 1), "ok");
    EXPECT_EQ(bed.invvpid(type, 0, 0, type == 2 ? OutcomeKind::kDone : kFail), "ok") << type;
  }
  EXPECT_EQ(bed.invvpid(4, 1, 0, kFail), "ok");
  EXPECT_EQ(bed.invvpid(0, 1, bit(47), kFail), "ok");
  EXPECT_EQ(bed.invvpid(1, 1, bit(47)), "ok");
}

TEST(VmEntry, AsidZeroFails) {
  NestedBed bed(Nesting::kNpt);
  EXPECT_EQ(bed.enter(bed.eptp(), 0, OutcomeKind::kVmFail), "ok");
  EXPECT_EQ(bed.enter(bed.eptp(), 1, OutcomeKind::kDone, 2), "unspecified/vmrun");
}

// --- The page-modification log.

class PmlBed : public NestedBed {
 public:
  PmlBed() : NestedBed(machine()) {
    map_guest(kPage | kPwu);
    enter();
  }
  static Machine machine() {
    Machine m = bare_machine(Nesting::kEpt);
    m.tdp |= tdp::kPml;
    return m;
  }
  std::string get(const std::vector<std::uint64_t>& log) {
    extra = log;
    Op op;
    op.verb = Verb::kPmlGet;
    Outcome o;
    o.extra_count = static_cast<std::uint32_t>(log.size());
    return says(step(op, o));
  }
};

TEST(Pml, LogsPagesWhoseDGoesUp) {
  PmlBed bed;
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kWrite, NestedBed::kGva + 8)), "ok");
  // The large page of the guest's tables by the entry first walked, then the page itself.
  EXPECT_EQ(bed.get({0x100000, 0x600000}), "ok");
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kWrite, NestedBed::kGva)), "ok");
  EXPECT_EQ(bed.get({}), "ok");
  EXPECT_EQ(bed.get({0x600000}), "lost-dirty-log/pml");
}

TEST(Pml, AReadLogsTheTablesOnly) {
  PmlBed bed;
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kRead, NestedBed::kGva)), "ok");
  EXPECT_EQ(bed.get({0x100000, 0x600000}), "lost-dirty-log/pml");
}

TEST(Pml, AFullLogExitsBeforeAOrDIsSet) {
  PmlBed bed;
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kWrite, NestedBed::kGva)), "ok");
  // D of one page goes up again and again.
  for (unsigned i = 2; i < 512; ++i) {
    bed.store_nested(NestedBed::kPage, 1, NestedBed::kFrame | kRwxWb | ept::kA);
    bed.invept(1, bed.eptp());
    ASSERT_EQ(says(bed.access_fresh(AccessKind::kWrite, NestedBed::kGva)), "ok") << i;
  }
  EXPECT_EQ(bed.now(AccessKind::kWrite), "ok gpa=0x3000000");
  bed.store_nested(NestedBed::kPage, 1, NestedBed::kFrame | kRwxWb);
  bed.invept(1, bed.eptp());
  EXPECT_EQ(bed.now(AccessKind::kRead), "pml-full");
  EXPECT_EQ(says(bed.access_fresh(AccessKind::kRead, NestedBed::kGva)), "ok");
  EXPECT_EQ(bed.nested(NestedBed::kPage, 1), NestedBed::kFrame | kRwxWb);
}

}  // namespace
}  // namespace twinwalk::oracle
