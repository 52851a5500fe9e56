#include "harness/processor/second_dimension.h"

#include <utility>

#include "harness/processor/two_dimensions_bed.h"

namespace twinwalk::processor {
namespace {

class EptTest : public TwoDimensionsTest {
 protected:
  EptTest() { mapped(); }
  void mapped() {
    map(kGva, kData | kPwu);
    fill(kData, 0xd);
  }
  void start_with(std::uint32_t add, std::uint32_t without = 0) {
    Machine m;
    m.tdp = (m.tdp | add) & ~without;
    start(m);
    mapped();
  }
  // Fresh caches, the same memory.
  void forget() { processor.reset(machine); }
};

TEST_F(EptTest, TranslatesEveryAddressOfTheGuest) {
  EXPECT_EQ(read(), "ok 0xd");
  EXPECT_EQ(last.hpa[0], kGuestRam + kData);
  EXPECT_EQ(last.gpa[0], kData);
}

TEST_F(EptTest, TheSharedBitChoosesTheTables) {
  Machine m;
  m.maxphyaddr = m.host_maxphyaddr = 48;
  start(m);
  mapped();
  constexpr std::uint64_t kShared = bit(47);
  const std::uint64_t private_root = next_table;
  next_table += 4096;
  std::swap(memory.word(private_root), memory.word(kRoot));
  controls.nested.private_pointer = private_root | (controls.nested.pointer & 4095);
  controls.nested.shared_bit = kShared;
  nested(kData | kShared) = (kGuestRam + kData + 4096) | kEptLeaf;
  fill(kData + 4096, 0xe);
  EXPECT_EQ(read(), "ok 0xd");
  map(kGva, kData | kShared | kPwu);
  forget();
  EXPECT_EQ(read(), "ok 0xe");
  EXPECT_EQ(last.gpa[0], kData | kShared);
  nested(kData | kShared) = 0;
  forget();
  EXPECT_EQ(read(), "violation 0x781 0x800000040000");
  NestedPath path;
  processor.peek(controls.nested, kData, path);
  EXPECT_EQ(path.at[0], private_root);
  EXPECT_EQ(path.hpa, kGuestRam + kData);
}

TEST_F(EptTest, TablesOfTheGuestAreWrittenAndItsDataIsRead) {
  read();
  for (unsigned level = 1; level <= 4; ++level) {
    EXPECT_EQ(nested(table_gpa(kGva, level)) & (kEptAccessed | kEptDirty), kEptAccessed | kEptDirty)
        << level;
  }
  EXPECT_EQ(nested(kData) & (kEptAccessed | kEptDirty), kEptAccessed);
  for (unsigned level = 2; level <= 4; ++level)
    EXPECT_EQ(nested(kData, level) & (kEptAccessed | kEptDirty), kEptAccessed) << level;
}

TEST_F(EptTest, AStoreSetsDirtyInTheLeafAlone) {
  write();
  EXPECT_EQ(nested(kData) & (kEptAccessed | kEptDirty), kEptAccessed | kEptDirty);
  EXPECT_FALSE(nested(kData, 2) & kEptDirty);
}

TEST_F(EptTest, WithoutFlagsNoneIsSet) {
  with_flags(false);
  write();
  EXPECT_EQ(nested(kData) & (kEptAccessed | kEptDirty), 0u);
  EXPECT_EQ(nested(kCr3) & (kEptAccessed | kEptDirty), 0u);
}

TEST_F(EptTest, QualificationOfData) {
  nested(kData) = 0;
  EXPECT_EQ(read(), "violation 0x781 0x40000");  // linear, final, user, writable
  EXPECT_EQ(text(run(kGva + 8, AccessKind::kWrite)), "violation 0x782 0x40008");
  EXPECT_EQ(fetch(), "violation 0x784 0x40000");
  EXPECT_EQ(text(run(kGva, AccessKind::kRmw)), "violation 0x783 0x40000");
  nested(kData) = kGuestRam + kData | kWb | 1;
  EXPECT_EQ(write(), "violation 0x78a 0x40000");
  EXPECT_EQ(fetch(), "violation 0x78c 0x40000");
  EXPECT_EQ(read(), "ok 0xd");
}

TEST_F(EptTest, RightsAreTheAndOfTheEntries) {
  nested(kData, 3) &= ~std::uint64_t{2};
  nested(kData, 2) &= ~std::uint64_t{4};
  // The guest's tables are below the same entries: their access is refused first, as a write.
  EXPECT_EQ(read(), "violation 0x8b 0x10000");
}

TEST_F(EptTest, AdvancedInformationSaysWhatTheGuestsOwnWalkAllows) {
  nested(kData) = 0;
  map(kGva, kData | kPresent | kNoExecute);
  EXPECT_EQ(read(), "violation 0x981 0x40000");
  start_with(0, tdp::kAdvanced);
  nested(kData) = 0;
  EXPECT_EQ(read(), "violation 0x181 0x40000");
}

TEST_F(EptTest, WithoutPagingTheLinearAddressIsAUsersAndMayDoAll) {
  controls.registers.cr0 &= ~cr0::kPg;
  controls.registers.efer &= ~efer::kLma;
  EXPECT_EQ(read(kData), "ok 0xd");
  nested(kData) = 0;
  processor.invept(0, 2, 0);
  EXPECT_EQ(read(kData), "violation 0x781 0x40000");
}

TEST_F(EptTest, AGuestTableIsReachedForWritingWithFlags) {
  const std::uint64_t table = table_gpa(kGva, 1), entry = guest_entry(kGva) - kGuestRam;
  nested(table) = 0;
  read();
  EXPECT_EQ(last.exit.qualification, 0x83u);
  EXPECT_EQ(last.exit.gpa, entry);
  nested(table) = kGuestRam + table | kWb | 5;  // readable and executable
  read();
  EXPECT_EQ(last.exit.qualification, 0xabu);
}

TEST_F(EptTest, WithoutFlagsAGuestTableIsReadAndItsAccessedBitWritten) {
  with_flags(false);
  const std::uint64_t table = table_gpa(kGva, 1);
  nested(table) = kGuestRam + table | kWb | 1;
  read();
  EXPECT_EQ(text(last).substr(0, 9), "violation");
  EXPECT_EQ(last.exit.qualification & ~std::uint64_t{1}, 0x8au);
  EXPECT_EQ(last.exit.gpa, guest_entry(kGva) - kGuestRam);
  map(kGva, kData | kPwu | 0x20);  // A is there
  EXPECT_EQ(read(), "ok 0xd");
  EXPECT_EQ(write().substr(0, 9), "violation");  // D is not
}

TEST_F(EptTest, Misconfigurations) {
  struct Case {
    unsigned level;
    std::uint64_t bits;
  };
  const std::uint64_t leaf = kGuestRam | kWb;
  std::vector<Case> cases = {{1, leaf | 2},
                             {1, leaf | 6},
                             {1, kGuestRam | 7 | 2 << 3},
                             {1, kGuestRam | 7 | 3 << 3},
                             {1, kGuestRam | 7 | 7 << 3},
                             {1, leaf | 7 | bit(46)},
                             {1, leaf | 7 | bit(51)},
                             {2, 7 | kSize | kWb | bit(12)},
                             {2, 7 | kSize | kWb | bit(20)},
                             {3, 7 | kSize | kWb | bit(29)},
                             {3, 7 | kSize | kWb | bit(12)},
                             {4, kRoot | 7 | kSize}};
  for (unsigned n = 3; n <= 6; ++n) cases.push_back({2, kRoot | 7 | bit(n)});
  for (const Case& c : cases) {
    start(machine);
    mapped();
    const std::uint64_t gpa = c.level == 4 ? bit(40) : c.level == 3 ? bit(32) : bit(22);
    nested(gpa, c.level) = c.bits;
    map(kGva, gpa | kPwu);
    machine.maxphyaddr = 46;
    processor.set_capabilities(machine);
    EXPECT_EQ(read().substr(0, 9), "misconfig") << c.level << " " << std::hex << c.bits;
    EXPECT_EQ(last.exit.qualification, 0u);
  }
}

TEST_F(EptTest, WhatTheProcessorCannotDoIsMisconfigured) {
  const auto outcome = [this](unsigned level, std::uint64_t bits) {
    const std::uint64_t gpa = level == 3 ? bit(32) : bit(22);
    nested(gpa, level) = bits;
    map(kGva, gpa | kPwu);
    return fetch().substr(0, 9);
  };
  EXPECT_EQ(outcome(1, kGuestRam | kWb | 4), "ok 0x0");
  EXPECT_EQ(outcome(2, kWb | kRwx | kSize), "ok 0x0");
  start_with(0, tdp::kExecOnly | tdp::k2M | tdp::k1G);
  EXPECT_EQ(outcome(1, kGuestRam | kWb | 4), "misconfig");
  EXPECT_EQ(outcome(2, kWb | kRwx | kSize), "misconfig");
  EXPECT_EQ(outcome(3, kWb | kRwx | kSize), "misconfig");
}

TEST_F(EptTest, EntryByEntryNotPresentBeforeWhatIsBelowAndMisconfiguredBeforeRights) {
  nested(kData) = kGuestRam + kData | kWb | 2;  // W without R
  nested(kData, 3) &= ~std::uint64_t{6};
  // Rights of upper entries count only at the end: the guest's tables, well formed, stop first.
  EXPECT_EQ(read(), "violation 0x8b 0x10000");
  start(machine);
  mapped();
  nested(kData) = kGuestRam + kData | kWb | 2;
  EXPECT_EQ(write(), "misconfig 0x40000");
  nested(bit(30), 3) = 2;  // misconfigured
  map(kGva, bit(30) | kPwu);
  EXPECT_EQ(read(), "misconfig 0x40000000");
  nested(bit(30), 3) = bit(40);  // not present, whatever else it has
  EXPECT_EQ(read(), "violation 0x781 0x40000000");
}

TEST_F(EptTest, ExecuteOnly) {
  nested(kData) = kGuestRam + kData | kWb | 4;
  EXPECT_EQ(fetch(), "ok 0xd");
  EXPECT_EQ(read(), "violation 0x7a1 0x40000");
}

TEST_F(EptTest, ModeBasedExecuteControl) {
  start_with(tdp::kMbec);
  nested(kData) = kGuestRam + kData | kWb | 3 | bit(10);  // a user's linear address
  EXPECT_EQ(fetch(), "ok 0xd");
  map(kGva, kData | kPresent | kWritable);
  forget();
  EXPECT_EQ(fetch(), "violation 0x5dc 0x40000");  // bit 6: executable for users
  nested(kData) = kGuestRam + kData | kWb | 7;
  forget();
  EXPECT_EQ(fetch(), "ok 0xd");
  map(kGva, kData | kPwu);
  forget();
  EXPECT_EQ(fetch(), "violation 0x7bc 0x40000");
  // Bit 10 alone makes an entry present.
  nested(kData) = kGuestRam + kData | kWb | bit(10);
  forget();
  EXPECT_EQ(read(), "violation 0x7c1 0x40000");
  start_with(0);
  nested(kData) = kGuestRam + kData | kWb | bit(10);
  EXPECT_EQ(read(), "violation 0x781 0x40000");
}

TEST_F(EptTest, LargePages) {
  const std::uint64_t gpa = bit(30) + 0x3000;
  map(kGva, gpa | kPwu);
  nested(bit(30), 2) = kGuestRam | kEptLeaf | kSize;
  memory.word(kGuestRam + 0x3008) = 0x77;
  EXPECT_EQ(read(kGva + 8), "ok 0x77");
  EXPECT_EQ(last.hpa[0], kGuestRam + 0x3008);
  EXPECT_TRUE(nested(bit(30), 2) & kEptAccessed);
  EXPECT_FALSE(nested(bit(30), 2) & kEptDirty);
  start(machine);
  map(kGva, bit(34) + 0x20'3008 - 8 | kPwu);
  nested(bit(34), 3) = 0 | kEptLeaf | kSize;
  memory.word(0x20'3008) = 0x78;
  EXPECT_EQ(read(kGva + 8), "ok 0x78");
}

TEST_F(EptTest, FiveLevels) {
  Machine m;
  m.host_levels = 5;
  m.maxphyaddr = 52;
  start(m);
  const std::uint64_t gpa = bit(50) + 0x9000;
  map(kGva, gpa | kPwu);
  nested(gpa) = kGuestRam + kData | kEptLeaf;
  fill(kData, 0x5);
  EXPECT_EQ(read(), "ok 0x5");
  EXPECT_TRUE(nested(gpa, 5) & kEptAccessed);
  EXPECT_EQ(nested(0, 5) & 7, 7u);
  // With four levels 48 bits are translated.
  Machine four;
  four.maxphyaddr = 52;
  start(four);
  map(kGva, gpa | kPwu);
  EXPECT_EQ(read(), "violation 0x781 0x4000000009000");
}

TEST_F(EptTest, Pointers) {
  NestedFormat format;
  format.reset(NestedFormat::Kind::kEpt, Machine{});
  EXPECT_TRUE(format.takes(kRoot | 6 | 3 << 3));
  EXPECT_TRUE(format.takes(kRoot | 0 | 3 << 3 | 64));
  for (const std::uint64_t bad :
       {kRoot | 1 | 3 << 3, kRoot | 6 | 2 << 3, kRoot | 6 | 4 << 3, kRoot | 6 | 3 << 3 | bit(7),
        kRoot | 6 | 3 << 3 | bit(11), kRoot | 6 | 3 << 3 | bit(46), kRoot | 6 | 3 << 3 | bit(63)})
    EXPECT_FALSE(format.takes(bad)) << std::hex << bad;
  Machine m;
  m.host_levels = 5;
  m.tdp &= ~tdp::kAd;
  format.reset(NestedFormat::Kind::kEpt, m);
  EXPECT_TRUE(format.takes(kRoot | 6 | 4 << 3));
  EXPECT_FALSE(format.takes(kRoot | 6 | 3 << 3 | 64));
}

TEST_F(EptTest, PdptesAreReadWithoutALinearAddress) {
  controls.registers.cr3 = kData + 0x20;
  nested(kData) = 0;
  GuestResult r;
  processor.load_pdptes(controls, kData + 0x20, r);
  EXPECT_EQ(text(r), "violation 0x1 0x40020");
  nested(kData) = kGuestRam + kData | kEptLeaf;
  fill(kData + 0x20, 0x11001);
  fill(kData + 0x28, 0x12001);
  r = {};
  processor.load_pdptes(controls, kData + 0x20, r);
  EXPECT_EQ(text(r), "ok 0x0");
  EXPECT_EQ(controls.pdpte[1], 0x12001u);
  EXPECT_EQ(nested(kData) & (kEptAccessed | kEptDirty), kEptAccessed);  // a read
  fill(kData + 0x38, 0x13003);                                          // bit 1 is reserved
  r = {};
  processor.load_pdptes(controls, kData + 0x20, r);
  EXPECT_EQ(text(r), "gp");
  EXPECT_EQ(controls.pdpte[1], 0x12001u);
}

// ---- page-modification log

class PageLogTest : public EptTest {
 protected:
  PageLogTest() {
    log.page = page;
    controls.nested.log = &log;
  }
  std::uint64_t page[PageLog::kEntries] = {};
  PageLog log;
};

TEST_F(PageLogTest, LogsPagesInTheOrderInWhichTheyGetDirty) {
  write(kGva + 8);
  ASSERT_EQ(log.index, 511 - 5);
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(page[511 - i], table_gpa(kGva, 4 - i)) << i;
  EXPECT_EQ(page[507], kData);
  write(kGva);
  EXPECT_EQ(log.index, 506);  // D is set already
}

TEST_F(PageLogTest, AFullLogStopsEvenAReadThatHasToSetAccessed) {
  read();
  map(kGva + 4096, kData + 4096 | kPwu);
  log.index = 0xffff;
  EXPECT_EQ(read(), "ok 0xd");  // nothing to set
  EXPECT_EQ(read(kGva + 4096), "log full");
  EXPECT_EQ(nested(kData + 4096) & kEptAccessed, 0u);
  EXPECT_EQ(write(), "log full");
  EXPECT_EQ(nested(kData) & kEptDirty, 0u);
  EXPECT_EQ(memory.word(kGuestRam + kData), 0xdu);
  log.index = 511;
  EXPECT_EQ(write(), "ok 0x0");
}

TEST_F(PageLogTest, TheLastEntryMakesItFull) {
  read();
  log.index = 0;
  write();
  EXPECT_EQ(page[0], kData);
  EXPECT_EQ(log.index, 0xffff);
}

TEST_F(PageLogTest, AViolationComesBeforeTheFullLog) {
  nested(kData) = 0;
  read();
  log.index = 0xffff;
  EXPECT_EQ(read(), "violation 0x781 0x40000");
}

// ---- NPT

class NptTest : public TwoDimensionsTest {
 protected:
  NptTest() { mapped(4); }
  void mapped(std::uint8_t levels, std::uint32_t without = 0) {
    Machine m;
    m.host_levels = levels;
    m.tdp &= ~without;
    start_npt(m);
    map(kGva, kData | kPwu);
    fill(kData, 0xd);
  }
};

TEST_F(NptTest, LevelsOfTheHost) {
  for (const std::uint8_t levels : {std::uint8_t{3}, std::uint8_t{4}, std::uint8_t{5}}) {
    mapped(levels);
    EXPECT_EQ(read(), "ok 0xd") << int{levels};
    EXPECT_EQ(nested(kData) & 0x60, 0x20u);
    EXPECT_EQ(nested(table_gpa(kGva, 1)) & 0x60, 0x60u);
    EXPECT_EQ(nested(kData, 3) & 0x20, levels == 3 ? 0u : 0x20u);  // PDPTEs of PAE have no A
  }
}

TEST_F(NptTest, ErrorCodes) {
  nested(kData) = 0;
  EXPECT_EQ(read(), "#NPF 0x100000004 0x40000");
  EXPECT_EQ(write(), "#NPF 0x100000006 0x40000");
  EXPECT_EQ(fetch(), "#NPF 0x100000014 0x40000");
  nested(kData) = kGuestRam + kData | kPresent | kUser;
  EXPECT_EQ(write(), "#NPF 0x100000007 0x40000");
  nested(kData) = kGuestRam + kData | kPwu | bit(51);
  EXPECT_EQ(read(), "#NPF 0x10000000d 0x40000");
  const std::uint64_t table = table_gpa(kGva, 1), entry = guest_entry(kGva) - kGuestRam;
  processor.reset(machine);
  nested(table) = 0;
  read();
  EXPECT_EQ(last.exit.qualification, 0x2'0000'0006u);
  EXPECT_EQ(last.exit.gpa, entry);
  nested(table) = kGuestRam + table | kPresent | kUser;
  fetch();
  EXPECT_EQ(last.exit.qualification, 0x2'0000'0007u);
  nested(table) = kGuestRam + table | kPwu | bit(50);
  fetch();
  EXPECT_EQ(last.exit.qualification, 0x2'0000'000fu);
}

TEST_F(NptTest, TheNestedWalkIsAUsers) {
  nested(kData) = kGuestRam + kData | kPresent | kWritable;
  EXPECT_EQ(read(), "#NPF 0x100000005 0x40000");
}

TEST_F(NptTest, NoExecuteOnlyWhereTheHostHasIt) {
  nested(kData) = kGuestRam + kData | kPwu | kNoExecute;
  EXPECT_EQ(read(), "ok 0xd");
  EXPECT_EQ(fetch(), "#NPF 0x100000015 0x40000");
  mapped(4, tdp::kNxe);
  nested(kData) = kGuestRam + kData | kPwu | kNoExecute;
  EXPECT_EQ(read(), "#NPF 0x10000000d 0x40000");
  nested(kData) = 0;
  EXPECT_EQ(fetch(), "#NPF 0x100000004 0x40000");
}

TEST_F(NptTest, ReservedBits) {
  struct Case {
    std::uint8_t levels;
    unsigned level;
    std::uint64_t bits;
  };
  for (const Case& c :
       {Case{4, 4, kRoot | kPwu | kSize}, Case{4, 4, kRoot | kPwu | kGlobal},
        Case{5, 5, kRoot | kPwu | kSize}, Case{4, 3, kPwu | kSize | bit(13)},
        Case{4, 2, kPwu | kSize | bit(20)}, Case{4, 1, kPwu | bit(46)},
        Case{3, 3, kRoot | kPresent | kWritable}, Case{3, 3, kRoot | kPresent | bit(63)},
        Case{3, 2, kPwu | kSize | bit(52)}, Case{3, 1, kPwu | bit(62)}}) {
    mapped(c.levels);
    const std::uint64_t gpa = c.level == 5 ? bit(48) : c.level == 4 ? bit(39) : 0xc000'0000;
    Machine wide = machine;
    wide.maxphyaddr = 52;
    processor.set_capabilities(wide);
    nested(gpa, c.level) = c.bits;
    map(kGva, gpa | kPwu);
    read();
    EXPECT_EQ(last.exit.qualification, 0x1'0000'000du) << int{c.levels} << " " << c.level;
  }
}

TEST_F(NptTest, AddressesAreNotWiderThanTheHostsOwn) {
  mapped(3);
  map(kGva, bit(32) + kData | kPwu);
  EXPECT_EQ(read(), "#NPF 0x100000004 0x100040000");
}

TEST_F(NptTest, WalksAgainBeforeItFaults) {
  read();
  nested(kData) = kGuestRam + kData | kPresent | kUser;
  processor.reset(machine);
  read();
  nested(kData) = kGuestRam + kData | kPwu;
  EXPECT_EQ(write(), "ok 0x0");  // what was cached allowed reads alone
}

}  // namespace
}  // namespace twinwalk::processor
