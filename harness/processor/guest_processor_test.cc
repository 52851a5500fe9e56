#include "harness/processor/guest_processor.h"

#include "harness/processor/two_dimensions_bed.h"

namespace twinwalk::processor {
namespace {

constexpr std::uint64_t kA = 0x20, kD = 0x40;

// ---- the guest's own tables

class GuestModesTest : public TwoDimensionsTest {
 protected:
  void in_mode(Mode mode, Vendor vendor = Vendor::kIntel, std::uint32_t without = 0) {
    Machine m;
    m.mode = mode;
    m.vendor = vendor;
    m.features = (feature::kAll & ~feature::kSvm) & ~without;
    start(m);
    controls.registers.efer |= efer::kNxe;
    if (vendor == Vendor::kAmd) {
      start_npt(m);
      controls.registers.efer |= efer::kNxe;
    }
    fill(kData, 0xd);
    fill(kData + 4096, 0xe);
  }
  void latch() {
    GuestResult r;
    processor.load_pdptes(controls, controls.registers.cr3, r);
    EXPECT_EQ(r.kind, GuestResult::Kind::kDone);
  }
};

TEST_F(GuestModesTest, FourAndFiveLevelsSetAccessedAndDirty) {
  for (const Mode mode : {Mode::k4Level, Mode::k5Level}) {
    in_mode(mode);
    map(kGva, kData | kPwu);
    EXPECT_EQ(read(), "ok 0xd");
    const unsigned levels = mode == Mode::k5Level ? 5 : 4;
    for (unsigned level = 1; level <= levels; ++level)
      EXPECT_EQ(guest(kGva, level) & (kA | kD), kA) << level;
    EXPECT_EQ(write(), "ok 0x0");
    EXPECT_EQ(guest(kGva) & (kA | kD), kA | kD);
    EXPECT_EQ(memory.word(kGuestRam + kData), 1u);
    EXPECT_EQ(read(std::uint64_t{1} << 55), mode == Mode::k5Level ? "#PF 0" : "gp");
  }
}

TEST_F(GuestModesTest, ThirtyTwoBit) {
  in_mode(Mode::k32Bit);
  map(kGva, kData | kPwu);
  EXPECT_EQ(read(bit(40) | kGva), "ok 0xd");  // modulo 2^32
  EXPECT_EQ(guest(kGva, 2) & kA, kA);
  EXPECT_EQ(write(), "ok 0x0");
  EXPECT_EQ(guest(kGva) & kD, kD);
  // Without CR4.PSE, PS is nothing.
  controls.registers.cr4 &= ~cr4::kPse;
  map(0x80'5000, kData | kPwu);
  map(0x80'5000, guest(0x80'5000, 2) | kSize, 2);
  EXPECT_EQ(read(0x80'5000), "ok 0x1");
}

TEST_F(GuestModesTest, FourMegabytePages) {
  in_mode(Mode::k32Bit);
  controls.registers.cr4 |= cr4::kPse;
  map(0x80'0000, kPwu | kSize, 2);
  EXPECT_EQ(read(0x80'0000 + kData), "ok 0xd");
  EXPECT_EQ(guest(0x80'0000, 2) & (kA | kD), kA);
  map(0xc0'0000, kPwu | kSize | bit(13), 2);  // PSE-36: bit 32 of the address
  EXPECT_EQ(read(0xc0'0000), "violation 0x781 0x100000000");
  map(0x100'0000, kPwu | kSize | bit(21), 2);
  EXPECT_EQ(read(0x100'0000), "#PF 9");
  in_mode(Mode::k32Bit, Vendor::kIntel, feature::kPse36);
  controls.registers.cr4 |= cr4::kPse;
  map(0xc0'0000, kPwu | kSize | bit(13), 2);
  EXPECT_EQ(read(0xc0'0000), "#PF 9");
}

TEST_F(GuestModesTest, PaeWalksFromItsRegisters) {
  in_mode(Mode::kPae);
  map(kGva, kData | kPwu);
  latch();
  EXPECT_EQ(read(), "ok 0xd");
  EXPECT_EQ(guest(kGva, 3) & kA, 0u);
  map(kGva, 0, 3);  // in memory alone
  map(0x4060'0000, kData | kPwu);
  EXPECT_EQ(read(kGva + 4096), "#PF 0");
  controls.pdpte[1] = 0;
  processor.invpcid(controls, 2, 0, 0);
  EXPECT_EQ(read(), "#PF 0");
}

TEST_F(GuestModesTest, PaeReservedBits) {
  in_mode(Mode::kPae);
  for (const std::uint64_t bad : {bit(40), bit(52), bit(62)}) {
    map(kGva, kData | kPwu | bad);
    latch();
    EXPECT_EQ(read(), "#PF 9") << std::hex << bad;
  }
  map(kGva, kData | kPwu | kNoExecute);
  EXPECT_EQ(read(), "ok 0xd");
  EXPECT_EQ(fetch(), "#PF 17");
  controls.registers.efer &= ~efer::kNxe;
  processor.invpcid(controls, 2, 0, 0);
  EXPECT_EQ(fetch(), "#PF 9");
}

TEST_F(GuestModesTest, AmdReadsPdptesInMemoryAndFaultsAtUse) {
  in_mode(Mode::kPae, Vendor::kAmd);
  map(kGva, kData | kPwu);
  EXPECT_EQ(read(), "ok 0xd");
  map(kGva + 4096, kData + 4096 | kPwu);
  map(kGva, guest(kGva, 3) | 2, 3);
  EXPECT_EQ(read(kGva + 4096), "ok 0xe");    // by what is cached
  EXPECT_EQ(read(kGva + bit(21)), "#PF 9");  // which is not what faults
  processor.invpcid(controls, 2, 0, 0);
  EXPECT_EQ(read(), "#PF 9");
}

TEST_F(GuestModesTest, ReservedBitsOfLongMode) {
  in_mode(Mode::k4Level, Vendor::kIntel, feature::k1G);
  map(kGva, kData | kPwu);
  const auto with = [this](unsigned level, std::uint64_t bits) {
    const std::uint64_t was = guest(kGva, level);
    map(kGva, was | bits, level);
    std::string got = read();
    map(kGva, was, level);
    processor.invpcid(controls, 2, 0, 0);
    return got;
  };
  for (unsigned level = 1; level <= 4; ++level) {
    EXPECT_EQ(with(level, bit(40)), "#PF 9") << level;
    EXPECT_EQ(with(level, bit(52)), "ok 0xd") << level;
  }
  EXPECT_EQ(with(4, kSize), "#PF 9");
  EXPECT_EQ(with(3, kSize), "#PF 9");
  EXPECT_EQ(with(2, kSize | bit(13)), "#PF 9");
  EXPECT_EQ(with(4, bit(8)), "ok 0xd");
  controls.registers.efer &= ~efer::kNxe;
  EXPECT_EQ(with(2, kNoExecute), "#PF 9");
  in_mode(Mode::k4Level, Vendor::kAmd);
  map(kGva, kData | kPwu);
  EXPECT_EQ(with(4, bit(8)), "#PF 9");
}

TEST_F(GuestModesTest, TheErrorCodeTellsAFetchOnlyWhereOneCanBeForbidden) {
  in_mode(Mode::k4Level);
  EXPECT_EQ(fetch(), "#PF 16");
  controls.registers.efer &= ~efer::kNxe;
  EXPECT_EQ(fetch(), "#PF 0");
  controls.registers.cr4 |= cr4::kSmep;
  EXPECT_EQ(fetch(), "#PF 16");
  in_mode(Mode::k32Bit);  // NXE without PAE
  EXPECT_EQ(fetch(), "#PF 0");
}

TEST_F(GuestModesTest, WriteProtect) {
  in_mode(Mode::k4Level);
  map(kGva, kData | kPresent | kUser);
  EXPECT_EQ(write(), "#PF 3");
  controls.registers.cr0 &= ~cr0::kWp;
  EXPECT_EQ(write(), "ok 0x0");
  EXPECT_EQ(guest(kGva) & kD, kD);
  controls.registers.cpl = 3;
  EXPECT_EQ(write(), "#PF 7");
}

TEST_F(GuestModesTest, SmepSmapAndImplicitAccesses) {
  in_mode(Mode::k4Level);
  map(kGva, kData | kPwu);
  controls.registers.cr4 |= cr4::kSmep | cr4::kSmap;
  EXPECT_EQ(read(), "#PF 1");
  EXPECT_EQ(fetch(), "#PF 17");
  controls.registers.ac = true;
  EXPECT_EQ(read(), "ok 0xd");
  GuestResult r;
  processor.access(controls, {kGva, 8, AccessKind::kRead, true, 0}, r);
  EXPECT_EQ(text(r), "#PF 1");
  controls.registers.cpl = 3;
  controls.registers.ac = false;
  EXPECT_EQ(read(), "ok 0xd");
  r = {};
  processor.access(controls, {kGva, 8, AccessKind::kWrite, true, 0}, r);
  EXPECT_EQ(text(r), "#PF 3");
}

TEST_F(GuestModesTest, ProtectionKeys) {
  in_mode(Mode::k4Level);
  map(kGva, kData | kPwu | std::uint64_t{5} << 59);
  controls.registers.cr4 |= cr4::kPke;
  controls.registers.pkru = 2u << 10;  // no writes
  EXPECT_EQ(read(), "ok 0xd");
  EXPECT_EQ(write(), "#PF 35");
  controls.registers.cr0 &= ~cr0::kWp;
  EXPECT_EQ(write(), "ok 0x0");
  controls.registers.pkru = 1u << 10;
  EXPECT_EQ(read(), "#PF 33");
  EXPECT_EQ(fetch(), "ok 0x1");
  map(kGva, kData | kPresent | kWritable | std::uint64_t{5} << 59);
  processor.invlpg(controls, kGva);
  EXPECT_EQ(read(), "ok 0x1");  // no user's page
}

TEST_F(GuestModesTest, PageCrossing) {
  in_mode(Mode::k4Level);
  map(kGva, kData | kPwu);
  EXPECT_EQ(text(run(kGva + 4092, AccessKind::kWrite, 0x1122334455667788)), "#PF 2");
  EXPECT_EQ(last.fault_gva, kGva + 4096);
  map(kGva + 4096, kData + 0x2000 | kPwu);
  EXPECT_EQ(text(run(kGva + 4092, AccessKind::kWrite, 0x1122334455667788)), "ok 0x0");
  EXPECT_EQ(memory.load(kGuestRam + kData + 4092, 4), 0x55667788u);
  EXPECT_EQ(memory.load(kGuestRam + kData + 0x2000, 4), 0x11223344u);
  EXPECT_EQ(last.gpa[1], kData + 0x2000);
  nested(kData + 0x2000) = 0;
  processor.invept(0, 2, 0);
  EXPECT_EQ(read(kGva + 4092), "violation 0x781 0x42000");
  EXPECT_EQ(last.fault_gva, kGva + 4096);
}

TEST_F(GuestModesTest, WithoutASecondDimensionAddressesArePhysical) {
  in_mode(Mode::k4Level);
  controls.nested = {};
  controls.registers.cr3 = kGuestRam + 0x70000;
  map(kGva, kGuestRam + kData | kPwu);
  std::uint64_t at = controls.registers.cr3;
  for (unsigned level = 4; level > 1; --level) {
    const std::uint64_t next = kGuestRam + 0x70000 + level * 4096;
    memory.word(at + (kGva >> (12 + 9 * (level - 1)) & 511) * 8) = next | kPwu;
    at = next;
  }
  memory.word(at + (kGva >> 12 & 511) * 8) = kGuestRam + kData | kPwu;
  EXPECT_EQ(read(), "ok 0xd");
  memory.word(at + (kGva >> 12 & 511) * 8 + 8) = bit(30) | kPwu;
  EXPECT_EQ(read(kGva + 4096), "device 0x40000000");
  EXPECT_EQ(write(kGva + 4096), "device 0x40000000");
}

// ---- what is cached, and until when

class GuestTlbTest : public GuestModesTest {
 protected:
  GuestTlbTest() {
    in_mode(Mode::k4Level);
    mapped();
  }
  void mapped() {
    map(kGva, kData | kPwu);
    map(kGva + 4096, kData + 4096 | kPwu);
  }
  void move_nested() { nested(kData) = kGuestRam + kData + 4096 | kEptLeaf; }
  void move_guest() { map(kGva, kData + 4096 | kPwu); }
};

TEST_F(GuestTlbTest, CombinedMappingsOutliveBothTables) {
  read();
  move_nested();
  EXPECT_EQ(read(), "ok 0xd");
  move_guest();
  EXPECT_EQ(read(), "ok 0xd");
}

TEST_F(GuestTlbTest, InvlpgLeavesGuestPhysicalMappings) {
  read();
  move_nested();
  processor.invlpg(controls, kGva);
  EXPECT_EQ(read(), "ok 0xd");
  processor.invept(0, 1, controls.nested.pointer);
  EXPECT_EQ(read(), "ok 0xe");
}

TEST_F(GuestTlbTest, InvlpgDropsTheCombinedMapping) {
  read();
  move_guest();
  processor.invlpg(controls, kGva + 4096);
  EXPECT_EQ(read(), "ok 0xd");
  processor.invlpg(controls, kGva + 5);
  EXPECT_EQ(read(), "ok 0xe");
}

TEST_F(GuestTlbTest, InvvpidLeavesGuestPhysicalMappings) {
  for (const unsigned type : {0u, 1u, 2u, 3u}) {
    in_mode(Mode::k4Level);
    mapped();
    read();
    move_nested();
    processor.invvpid(0, type, 1, kGva);
    EXPECT_EQ(read(), "ok 0xd") << type;
    move_guest();
    processor.invvpid(0, type, 2, kGva + 0x10000);  // another VPID
    EXPECT_EQ(read(), type == 2 ? "ok 0xe" : "ok 0xd") << type;
    processor.invvpid(0, type, 1, kGva);
    EXPECT_EQ(read(), "ok 0xe") << type;
  }
}

TEST_F(GuestTlbTest, InveptOfOnePointerLeavesOthers) {
  read();
  move_guest();
  processor.invept(0, 1, controls.nested.pointer ^ bit(30));
  EXPECT_EQ(read(), "ok 0xd");
  processor.invept(1, 2, 0);  // another vCPU
  EXPECT_EQ(read(), "ok 0xd");
  with_flags(false);  // the same EP4TA
  EXPECT_EQ(read(), "ok 0xd");
  processor.invept(0, 1, controls.nested.pointer);
  EXPECT_EQ(read(), "ok 0xe");
}

TEST_F(GuestTlbTest, TagsAreVcpuVpidPcidAndEp4ta) {
  read();
  move_guest();
  const GuestControls before = controls;
  controls.vcpu = 1;
  EXPECT_EQ(read(), "ok 0xe");
  controls = before;
  controls.nested.vpid = 2;
  EXPECT_EQ(read(), "ok 0xe");
  controls = before;
  controls.registers.cr4 |= cr4::kPcide;
  controls.registers.cr3 |= 3;
  EXPECT_EQ(read(), "ok 0xe");
  controls = before;
  EXPECT_EQ(read(), "ok 0xd");
}

TEST_F(GuestTlbTest, Vpid0IsDroppedAtEntryAndExit) {
  controls.nested.vpid = 0;
  read();
  move_nested();
  processor.drop_vpid_0(0);
  EXPECT_EQ(read(), "ok 0xd");  // the guest-physical mapping stays
  move_guest();
  processor.drop_vpid_0(0);
  EXPECT_EQ(read(), "ok 0xe");
}

TEST_F(GuestTlbTest, StructuresOutliveTheirTables) {
  read();
  map(kGva, 0, 2);
  EXPECT_EQ(read(kGva + 4096), "ok 0xe");
  processor.invlpg(controls, 0x1000);  // all structures of the PCID
  EXPECT_EQ(read(kGva + 4096), "ok 0xe");
  EXPECT_EQ(read(kGva + 8192), "#PF 0");
}

TEST_F(GuestTlbTest, StructuresOfTheSecondDimensionOutliveTheirTables) {
  read();
  nested(kData, 2) = 0;
  processor.invvpid(0, 1, 1, 0);
  EXPECT_EQ(read(kGva + 4096), "ok 0xe");
  processor.invept(0, 2, 0);
  EXPECT_EQ(text(run(kGva + 4096)).substr(0, 9), "violation");
}

TEST_F(GuestTlbTest, NothingIsCachedOfWhatIsNotPresentOrMisconfigured) {
  nested(kData) = 0;
  EXPECT_EQ(read(), "violation 0x781 0x40000");
  nested(kData) = kGuestRam + kData | 2;
  EXPECT_EQ(read(), "misconfig 0x40000");
  nested(kData) = kGuestRam + kData | kEptLeaf;
  EXPECT_EQ(read(), "ok 0xd");
  EXPECT_EQ(read(kGva + 0x2000), "#PF 0");
  map(kGva + 0x2000, kData | kPwu | bit(45));
  EXPECT_EQ(read(kGva + 0x2000), "#PF 9");
  map(kGva + 0x2000, kData | kPwu);
  EXPECT_EQ(read(kGva + 0x2000), "ok 0xd");
}

TEST_F(GuestTlbTest, AViolationByAStaleMappingHappensOnce) {
  nested(kData) = kGuestRam + kData | kWb | 1;
  read();
  nested(kData) = kGuestRam + kData | kEptLeaf;
  EXPECT_EQ(write(), "violation 0x78a 0x40000");
  EXPECT_EQ(write(), "ok 0x0");
}

TEST_F(GuestTlbTest, AViolationDropsGuestPhysicalMappingsForOtherAddressesToo) {
  map(kGva + 0x8000, kData | kPwu);
  nested(kData) = kGuestRam + kData | kWb | 1;
  read();
  read(kGva + 0x8000);
  nested(kData) = kGuestRam + kData | kEptLeaf;
  EXPECT_EQ(write(), "violation 0x78a 0x40000");
  // The other linear address keeps its combined mapping.
  EXPECT_EQ(write(kGva + 0x8000), "violation 0x78a 0x40000");
  EXPECT_EQ(write(kGva + 0x8000), "ok 0x0");
}

TEST_F(GuestTlbTest, APageFaultByAStaleMappingHappensOnce) {
  map(kGva, kData | kPresent | kUser);
  read();
  map(kGva, kData | kPwu);
  EXPECT_EQ(write(), "#PF 3");
  EXPECT_EQ(write(), "ok 0x0");
}

TEST_F(GuestTlbTest, AmdHasNoSpuriousFault) {
  in_mode(Mode::k4Level, Vendor::kAmd);
  map(kGva, kData | kPresent | kUser);
  read();
  map(kGva, kData | kPwu);
  EXPECT_EQ(write(), "ok 0x0");
}

TEST_F(GuestTlbTest, ACachedDirtyBitStays) {
  write();
  nested(kData) &= ~std::uint64_t{0x200};
  map(kGva, guest(kGva) & ~kD);
  EXPECT_EQ(write(), "ok 0x0");
  EXPECT_FALSE(nested(kData) & 0x200);
  EXPECT_FALSE(guest(kGva) & kD);
  processor.invept(0, 2, 0);
  write();
  EXPECT_TRUE(nested(kData) & 0x200);
  EXPECT_TRUE(guest(kGva) & kD);
}

TEST_F(GuestTlbTest, AStoreWalksAgainToSetDirty) {
  read();
  move_guest();
  EXPECT_EQ(write(), "ok 0x0");
  EXPECT_EQ(memory.word(kGuestRam + kData + 4096), 1u);
  EXPECT_EQ(memory.word(kGuestRam + kData), 0xdu);
}

TEST_F(GuestTlbTest, FragmentsOfALargePageGoTogether) {
  map(0x8000'0000, kPwu | kSize, 2);  // gpa 0, mapped by 4K entries of EPT
  read(0x8000'0000 + kData);
  read(0x8000'0000 + kData + 4096);
  nested(kData) = nested(kData + 4096) = kGuestRam + 0x50000 | kEptLeaf;
  processor.invept(0, 1, 0);  // of nobody
  EXPECT_EQ(read(0x8000'0000 + kData), "ok 0xd");
  map(0x8000'0000, bit(22) | kPwu | kSize, 2);
  processor.invlpg(controls, 0x8000'0000 + kData);
  EXPECT_EQ(read(0x8000'0000 + kData + 4096).substr(0, 9), "violation");
}

TEST_F(GuestTlbTest, SmallPagesGoWithTheLargeOneThatReplacedThem) {
  map(0x8000'0000, kData | kPwu);
  map(0x8000'1000, kData + 4096 | kPwu);
  read(0x8000'0000);
  read(0x8000'1000);
  map(0x8000'0000, bit(22) | kPwu | kSize, 2);
  EXPECT_EQ(read(0x8000'1000), "ok 0xe");
  processor.invlpg(controls, 0x8000'0000);
  EXPECT_EQ(read(0x8000'1000).substr(0, 9), "violation");
}

TEST_F(GuestTlbTest, GlobalPages) {
  controls.registers.cr4 |= cr4::kPge | cr4::kPcide;
  map(kGva, kData | kPwu | kGlobal);
  read();
  move_guest();
  controls.registers.cr3 |= 7;
  EXPECT_EQ(read(), "ok 0xd");
  processor.invpcid(controls, 1, 7, 0);
  processor.invpcid(controls, 3, 0, 0);
  EXPECT_EQ(read(), "ok 0xd");
  processor.invvpid(0, 3, 1, 0);
  EXPECT_EQ(read(), "ok 0xd");
  controls.nested.vpid = 2;
  EXPECT_EQ(read(), "ok 0xe");
  controls.nested.vpid = 1;
  processor.invpcid(controls, 2, 0, 0);
  EXPECT_EQ(read(), "ok 0xe");
}

TEST_F(GuestTlbTest, InvpcidOfOneAddress) {
  controls.registers.cr4 |= cr4::kPcide;
  read();
  move_guest();
  processor.invpcid(controls, 0, 5, kGva);
  EXPECT_EQ(read(), "ok 0xd");
  processor.invpcid(controls, 0, 0, kGva);
  EXPECT_EQ(read(), "ok 0xe");
}

// APM 3 "INVLPGA": the address size says how much of rAX counts.
TEST_F(GuestTlbTest, InvlpgaOutsideLongModeHas32BitAddresses) {
  for (const Mode mode : {Mode::kPae, Mode::k4Level}) {
    in_mode(mode, Vendor::kAmd);
    mapped();
    EXPECT_EQ(read(), "ok 0xd");
    memory.store(guest_entry(kGva), 4, (kData + 4096) | kPwu | 0x60);
    processor.invlpga(controls.registers, 0, 1, kGva | bit(32));
    EXPECT_EQ(read(), mode == Mode::kPae ? "ok 0xe" : "ok 0xd");
  }
}

TEST_F(GuestTlbTest, AsidsAndTheirCommands) {
  in_mode(Mode::k4Level, Vendor::kAmd);
  mapped();
  read();
  nested(kData) = kGuestRam + kData + 4096 | kPwu;
  controls.nested.pointer = kRoot;  // nCR3 is no tag
  EXPECT_EQ(read(), "ok 0xd");
  processor.invlpga(controls.registers, 0, 1, kGva);
  EXPECT_EQ(read(), "ok 0xd");  // by the guest-physical mapping
  processor.tlb_control(0, 1, 0);
  processor.tlb_control(0, 2, 3);
  EXPECT_EQ(read(), "ok 0xd");
  processor.tlb_control(0, 1, 3);
  EXPECT_EQ(read(), "ok 0xe");
  for (const unsigned command : {1u, 7u}) {
    move_guest();
    in_mode(Mode::k4Level, Vendor::kAmd);
    mapped();
    read();
    move_guest();
    processor.tlb_control(0, 1, command);
    EXPECT_EQ(read(), "ok 0xe") << command;
  }
}

TEST_F(GuestTlbTest, SmallAndFreshTlbs) {
  machine.tlb = TlbPolicy::kFresh;
  processor.reset(machine);
  read();
  move_guest();
  EXPECT_EQ(read(), "ok 0xe");
  in_mode(Mode::k4Level);
  mapped();
  machine.tlb = TlbPolicy::kSmall;
  machine.tlb_entries = 1;
  processor.reset(machine);
  read();
  move_guest();
  EXPECT_EQ(read(), "ok 0xd");
  read(kGva + 4096);
  EXPECT_EQ(read(), "ok 0xe");
}

TEST_F(GuestTlbTest, ReachesDataAndTables) {
  read();
  const std::uint64_t data = (kGuestRam + kData) >> 12, table = guest_entry(kGva) >> 12,
                      ept = (nested(kData, 2) & 0x000f'ffff'ffff'f000) >> 12;
  EXPECT_TRUE(processor.reaches(data, 1));
  EXPECT_TRUE(processor.reaches(table, 1));
  EXPECT_TRUE(processor.reaches(ept, 1));
  processor.invvpid(0, 1, 1, 0);
  EXPECT_TRUE(processor.reaches(data, 1));  // guest-physical
  processor.invept(0, 2, 0);
  EXPECT_FALSE(processor.reaches(data, 1));
  EXPECT_FALSE(processor.reaches(table, 1));
  EXPECT_FALSE(processor.reaches(ept, 1));
}

}  // namespace
}  // namespace twinwalk::processor
