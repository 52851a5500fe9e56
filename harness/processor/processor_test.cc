#include "harness/processor/processor.h"

#include <gtest/gtest.h>

#include <string>

#include "harness/trace/content.h"

namespace twinwalk::processor {
namespace {

constexpr std::uint64_t kP = 1, kW = 2, kU = 4, kA = 32, kD = 64, kPs = 128, kG = 256,
                        kXd = std::uint64_t{1} << 63;
constexpr std::uint64_t kGva = 0x7654'3210'f000;

class ProcessorTest : public testing::Test {
 protected:
  ProcessorTest() : processor(memory) { start({}); }

  void start(const Machine& machine) {
    memory.reset(machine.host_page_level);
    processor.reset(machine);
    controls = {};
    memory.alloc_table(controls.root);
  }
  std::uint64_t frame(std::uint64_t page) {
    return memory.lookup(kHvaBase + page * 4096).pfn * 4096;
  }

  // The entry that maps `gva` at `level` from the root, tables made on the way.
  std::uint64_t& entry(std::uint64_t gva, unsigned level, std::uint64_t upper = kP | kW | kU) {
    std::uint64_t table = controls.root;
    for (unsigned l = controls.levels;; --l) {
      std::uint64_t& e = *memory.table_entry(table + (gva >> (12 + 9 * (l - 1)) & 511) * 8);
      if (l == level) return e;
      if (!(e & kP)) {
        std::uint64_t next = 0;
        memory.alloc_table(next);
        e = next | (controls.levels == 3 && l == 3 ? kP : upper);
      }
      table = e & 0x000f'ffff'ffff'f000;
    }
  }
  Result run(std::uint64_t gva, AccessKind kind = AccessKind::kRead, std::uint64_t value = 0,
             std::uint8_t size = 8, bool implicit = false) {
    Result result;
    processor.access(controls, {gva, size, kind, implicit, value}, result);
    return result;
  }
  // "ok", "gp", "entry failed" or the error code.
  std::string text(const Result& r) {
    return r.kind == Result::Kind::kDone                ? "ok"
           : r.kind == Result::Kind::kGeneralProtection ? "gp"
           : r.kind == Result::Kind::kEntryFailed       ? "entry failed"
                                                        : std::to_string(r.error_code);
  }

  HostMemory memory;
  Processor processor;
  Controls controls;
};

TEST_F(ProcessorTest, WalksAndSetsAccessedAndDirty) {
  entry(kGva, 1) = frame(5) | kP | kW | kU;
  Result r = run(kGva + 8);
  EXPECT_EQ(text(r), "ok");
  EXPECT_EQ(r.value, seed_word(0x5008));
  EXPECT_EQ(memory.hva_of(r.hpa[0]), kHvaBase + 0x5008);
  EXPECT_EQ(entry(kGva, 1) & (kA | kD), kA);
  for (unsigned level = 2; level <= 4; ++level) EXPECT_TRUE(entry(kGva, level) & kA);
  EXPECT_EQ(text(run(kGva + 8, AccessKind::kWrite, 42)), "ok");
  EXPECT_EQ(entry(kGva, 1) & (kA | kD), kA | kD);
  EXPECT_EQ(memory.peek(kHvaBase + 0x5008, 8), 42u);
  r = run(kGva + 8, AccessKind::kRmw, 3);
  EXPECT_EQ(r.value, 42u);
  EXPECT_EQ(memory.peek(kHvaBase + 0x5008, 8), 45u);
}

TEST_F(ProcessorTest, ErrorCodes) {
  EXPECT_EQ(text(run(kGva)), "0");
  EXPECT_EQ(text(run(kGva, AccessKind::kFetch)), "16");
  controls.cpl = 3;
  EXPECT_EQ(text(run(kGva, AccessKind::kWrite)), "6");
  EXPECT_EQ(text(run(kGva, AccessKind::kWrite, 0, 8, true)), "2");
  entry(kGva, 1) = frame(5) | kP | kW;
  EXPECT_EQ(text(run(kGva)), "5");
  controls.cpl = 0;
  EXPECT_EQ(text(run(kGva)), "ok");
  entry(kGva, 1) = frame(5) | kP | kXd;
  processor.flush({});
  EXPECT_EQ(text(run(kGva, AccessKind::kWrite)), "3");
  EXPECT_EQ(text(run(kGva, AccessKind::kFetch)), "17");
  EXPECT_EQ(text(run(0x8000'0000'0000)), "gp");
  EXPECT_EQ(text(run(0x7fff'ffff'fffc)), "gp");
}

TEST_F(ProcessorTest, RightsAccumulateFromEveryLevel) {
  controls.cpl = 3;
  for (unsigned level = 1; level <= 4; ++level) {
    for (const std::uint64_t right : {kW, kU}) {
      start({});
      controls.cpl = 3;
      entry(kGva, 1) = frame(5) | kP | kW | kU;
      entry(kGva, level) &= ~right;
      EXPECT_EQ(text(run(kGva, AccessKind::kWrite)), "7") << level;
    }
    start({});
    controls.cpl = 3;
    entry(kGva, 1) = frame(5) | kP | kW | kU;
    entry(kGva, level) |= kXd;
    EXPECT_EQ(text(run(kGva, AccessKind::kFetch)), "21") << level;
  }
}

TEST_F(ProcessorTest, ReservedBits) {
  Machine machine;
  machine.host_maxphyaddr = 46;
  const std::uint64_t above = std::uint64_t{1} << 46;
  for (unsigned level = 1; level <= 4; ++level) {
    start(machine);
    entry(kGva, 1) = frame(5) | kP | kW | kU;
    entry(kGva, level) |= above;
    EXPECT_EQ(text(run(kGva)), "9") << level;
  }
  start(machine);
  entry(kGva, 4) = kP | kPs;
  EXPECT_EQ(text(run(kGva)), "9");
  entry(kGva, 4) = 0;
  entry(kGva, 2) = kP | kPs | std::uint64_t{1} << 13;
  EXPECT_EQ(text(run(kGva)), "9");
  machine.vendor = Vendor::kAmd;
  start(machine);
  entry(kGva, 1) = frame(5) | kP;
  entry(kGva, 4) |= kG;
  EXPECT_EQ(text(run(kGva)), "9");
}

TEST_F(ProcessorTest, ControlsActAtTheAccessNotInTheTlb) {
  entry(kGva, 1) = frame(5) | kP | kW | kU;
  EXPECT_EQ(text(run(kGva)), "ok");
  controls.smap = true;
  EXPECT_EQ(text(run(kGva)), "1");
  EXPECT_EQ(text(run(kGva)), "1");
  controls.ac = true;
  EXPECT_EQ(text(run(kGva)), "ok");
  EXPECT_EQ(text(run(kGva, AccessKind::kRead, 0, 8, true)), "1");
  EXPECT_EQ(text(run(kGva, AccessKind::kFetch)), "ok");
  controls.smep = true;
  EXPECT_EQ(text(run(kGva, AccessKind::kFetch)), "17");
  controls.cpl = 3;
  EXPECT_EQ(text(run(kGva, AccessKind::kFetch)), "ok");
  EXPECT_EQ(text(run(kGva)), "ok");
}

TEST_F(ProcessorTest, ProtectionKeys) {
  entry(kGva, 1) = frame(5) | kP | kW | kU | std::uint64_t{5} << 59;
  controls.pke = true;
  controls.pkru = 2u << 10;  // key 5: no writes
  EXPECT_EQ(text(run(kGva)), "ok");
  EXPECT_EQ(text(run(kGva, AccessKind::kWrite)), "35");
  controls.cpl = 3;
  EXPECT_EQ(text(run(kGva, AccessKind::kWrite)), "39");
  controls.pkru = 1u << 10;  // no access
  EXPECT_EQ(text(run(kGva)), "37");
  EXPECT_EQ(text(run(kGva, AccessKind::kFetch)), "ok");
  controls.pke = false;
  EXPECT_EQ(text(run(kGva)), "ok");
}

TEST_F(ProcessorTest, KeepsWhatNothingInvalidated) {
  entry(kGva, 1) = frame(5) | kP | kW | kU;
  run(kGva);
  entry(kGva, 1) = frame(6) | kP | kW | kU;
  EXPECT_EQ(run(kGva).value, seed_word(0x5000));
  std::uint64_t root = controls.root;
  memory.alloc_table(controls.root);  // another root, the same tag: the tag decides
  EXPECT_EQ(run(kGva).value, seed_word(0x5000));
  controls.root = root;
  controls.tag.pcid = 1;
  EXPECT_EQ(run(kGva).value, seed_word(0x6000));
  controls.tag = {1, 0};
  EXPECT_EQ(run(kGva).value, seed_word(0x6000));
  controls.tag = {0, 0};
  EXPECT_EQ(run(kGva).value, seed_word(0x5000));
  processor.flush({Flush::Kind::kAddress, 0, 0, kGva});
  EXPECT_EQ(run(kGva).value, seed_word(0x6000));
}

TEST_F(ProcessorTest, NothingCachedFromNotPresent) {
  entry(kGva, 1) = 0;
  EXPECT_EQ(text(run(kGva)), "0");
  entry(kGva, 1) = frame(5) | kP;
  EXPECT_EQ(text(run(kGva)), "ok");
}

TEST_F(ProcessorTest, AFaultDropsThePageAndItsWay) {
  entry(kGva, 1) = frame(5) | kP;
  entry(kGva + 4096, 1) = frame(7) | kP;
  run(kGva);
  run(kGva + 4096);
  entry(kGva, 1) = frame(5) | kP | kW;
  EXPECT_EQ(text(run(kGva, AccessKind::kWrite)), "3");  // stale rights: once
  EXPECT_EQ(text(run(kGva, AccessKind::kWrite)), "ok");
  entry(kGva + 4096, 1) = frame(8) | kP;
  EXPECT_EQ(run(kGva + 4096).value, seed_word(0x7000));  // another page number stays
}

TEST_F(ProcessorTest, PagingStructureEntriesOutliveTheirTables) {
  entry(kGva, 1) = frame(5) | kP;
  entry(kGva + 4096, 1) = frame(6) | kP;
  run(kGva);
  std::uint64_t& pde = entry(kGva, 2);
  const std::uint64_t was = pde;
  pde = 0;
  EXPECT_EQ(run(kGva + 4096).value, seed_word(0x6000));  // by the PDE cache
  EXPECT_TRUE(processor.reaches((was & 0x000f'ffff'ffff'f000) >> 12, 1));
  processor.flush({Flush::Kind::kAddress, 0, 0,
                   0x1000});  // any address: all paging-structure caches of the PCID
  EXPECT_FALSE(processor.reaches((was & 0x000f'ffff'ffff'f000) >> 12, 1));
  EXPECT_EQ(run(kGva + 4096).value, seed_word(0x6000));  // the TLB entry stays
  processor.flush({Flush::Kind::kPcid, 0, 0, 0});
  EXPECT_EQ(text(run(kGva + 4096)), "0");
}

TEST_F(ProcessorTest, GlobalEntriesServeEveryPcidUntilTheirAddressIsFlushed) {
  entry(kGva, 1) = frame(5) | kP | kG;
  run(kGva);
  entry(kGva, 1) = frame(6) | kP | kG;
  controls.tag.pcid = 9;
  EXPECT_EQ(run(kGva).value, seed_word(0x5000));
  processor.flush({Flush::Kind::kPcid, 0, 0, 0});
  EXPECT_EQ(run(kGva).value, seed_word(0x5000));
  processor.flush({Flush::Kind::kAddress, TranslationCache::kEveryVcpu, 3, kGva + 5});
  EXPECT_EQ(run(kGva).value, seed_word(0x6000));
}

TEST_F(ProcessorTest, LargePages) {
  Machine machine;
  machine.host_page_level = 2;
  start(machine);
  entry(kGva, 2) = (frame(0) & ~std::uint64_t{0x1fffff}) | kP | kW | kPs;
  EXPECT_EQ(run(kGva + 16).value, seed_word((kGva & 0x1fffff) + 16));
  entry(kGva, 2) = 0;
  const std::uint64_t other = kGva & ~std::uint64_t{0x1fffff};
  EXPECT_EQ(run(other).value, seed_word(0));            // the one entry serves all of it
  EXPECT_EQ(text(run(kGva, AccessKind::kWrite)), "2");  // D has to be set: walks again
  EXPECT_EQ(text(run(other)), "0");
}

TEST_F(ProcessorTest, SmallAndFreshTlbs) {
  Machine machine;
  machine.tlb = TlbPolicy::kSmall;
  machine.tlb_entries = 1;
  start(machine);
  entry(kGva, 1) = frame(5) | kP;
  entry(kGva + 4096, 1) = frame(6) | kP;
  run(kGva);
  entry(kGva, 1) = frame(7) | kP;
  EXPECT_EQ(run(kGva).value, seed_word(0x5000));
  run(kGva + 4096);
  EXPECT_EQ(run(kGva).value, seed_word(0x7000));
  machine.tlb = TlbPolicy::kFresh;
  start(machine);
  entry(kGva, 1) = frame(5) | kP;
  run(kGva);
  entry(kGva, 1) = frame(6) | kP;
  EXPECT_EQ(run(kGva).value, seed_word(0x6000));
}

TEST_F(ProcessorTest, PageCrossing) {
  entry(kGva, 1) = frame(5) | kP | kW;
  EXPECT_EQ(run(kGva + 4092, AccessKind::kWrite, 0x1122334455667788).fault_gva, kGva + 4096);
  EXPECT_EQ(memory.peek(kHvaBase + 0x5ff8, 8), seed_word(0x5ff8));
  EXPECT_FALSE(entry(kGva + 4096, 1) & kA);
  entry(kGva + 4096, 1) = frame(9) | kP | kW;
  Result r = run(kGva + 4092, AccessKind::kWrite, 0x1122334455667788);
  EXPECT_EQ(r.parts, 2u);
  EXPECT_EQ(memory.hva_of(r.hpa[1]), kHvaBase + 0x9000);
  EXPECT_EQ(memory.peek(kHvaBase + 0x5ffc, 4), 0x55667788u);
  EXPECT_EQ(memory.peek(kHvaBase + 0x9000, 4), 0x11223344u);
  EXPECT_EQ(run(kGva + 4092).value, 0x1122334455667788u);
}

TEST_F(ProcessorTest, EscapesAreSeen) {
  entry(kGva, 1) = 0x5000 | kP;
  run(kGva);
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  entry(kGva + 4096, 1) = controls.root | kP | kW;
  EXPECT_EQ(text(run(kGva + 4096, AccessKind::kWrite, 1)), "ok");
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  entry(kGva, 2) = frame(5) | kP;
  processor.flush({});
  EXPECT_EQ(text(run(kGva)), "0");
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
}

TEST_F(ProcessorTest, GivingBackWhatIsReachedIsSeen) {
  entry(kGva, 1) = frame(5) | kP;
  run(kGva);
  const std::uint64_t table = entry(kGva, 2) & 0x000f'ffff'ffff'f000;
  entry(kGva, 2) = 0;
  memory.free_table(table);
  EXPECT_EQ(memory.take_complaint(), Complaint::kTableFreedInUse);
  memory.remap(kHvaBase + 0x5000, 1);
  EXPECT_EQ(memory.take_complaint(), Complaint::kTableFreedInUse);
  processor.flush({});
  memory.free_table(controls.root);
  EXPECT_EQ(memory.take_complaint(), Complaint::kNone);
}

// ---- 5 levels

class FiveLevelTest : public ProcessorTest {
 protected:
  FiveLevelTest() { five(); }
  void five() {
    controls.levels = 5;
    controls.gva_bits = 57;
  }
};

constexpr std::uint64_t kWide = 0x0076'7654'3210'f000;

TEST_F(FiveLevelTest, WalksFiveTables) {
  entry(kWide, 1) = frame(5) | kP | kW | kU;
  EXPECT_EQ(run(kWide + 8).value, seed_word(0x5008));
  for (unsigned level = 1; level <= 5; ++level) EXPECT_TRUE(entry(kWide, level) & kA);
  EXPECT_EQ(text(run(kWide ^ std::uint64_t{1} << 48)), "0");  // another PML5E
}

TEST_F(FiveLevelTest, CanonicalTo57Bits) {
  EXPECT_EQ(text(run(0x00ff'ffff'ffff'fff8)), "0");
  EXPECT_EQ(text(run(0x0100'0000'0000'0000)), "gp");
  EXPECT_EQ(text(run(0xfeff'ffff'ffff'fff8)), "gp");
  EXPECT_EQ(text(run(0xff00'0000'0000'0000)), "0");
}

TEST_F(FiveLevelTest, FortyEightBitAddressesAreExtendedBySign) {
  controls.gva_bits = 48;
  EXPECT_EQ(text(run(0x0000'8000'0000'0000)), "gp");
  const std::uint64_t high = 0xffff'8000'0000'0000;
  entry(high, 1) = frame(5) | kP;
  EXPECT_EQ(text(run(high)), "ok");
}

TEST_F(FiveLevelTest, ReservedBitsOfPml5e) {
  entry(kWide, 1) = frame(5) | kP;
  entry(kWide, 5) |= kPs;
  EXPECT_EQ(text(run(kWide)), "9");
  Machine amd;
  amd.vendor = Vendor::kAmd;
  start(amd);
  five();
  entry(kWide, 1) = frame(5) | kP;
  entry(kWide, 5) |= kG;
  EXPECT_EQ(text(run(kWide)), "9");
}

TEST_F(FiveLevelTest, PagesThatDifferInTheUppermostBitsAreDifferent) {
  const std::uint64_t other = kWide ^ std::uint64_t{1} << 52;
  entry(kWide, 1) = frame(5) | kP;
  entry(other, 1) = frame(6) | kP;
  EXPECT_EQ(run(kWide).value, seed_word(0x5000));
  EXPECT_EQ(run(other).value, seed_word(0x6000));
  EXPECT_EQ(run(kWide).value, seed_word(0x5000));
}

TEST_F(FiveLevelTest, Pml5esAreCachedUntilTheirPcidIsFlushed) {
  const std::uint64_t neighbour = kWide ^ std::uint64_t{1} << 39;  // below the same PML5E only
  entry(kWide, 1) = frame(5) | kP;
  entry(neighbour, 1) = frame(6) | kP;
  run(kWide);
  const std::uint64_t was = entry(kWide, 5);
  entry(kWide, 5) = 0;
  EXPECT_EQ(run(neighbour).value, seed_word(0x6000));
  entry(kWide, 5) = 0;
  processor.flush({Flush::Kind::kAddress, 0, 0, 0x1000});
  EXPECT_EQ(run(neighbour).value, seed_word(0x6000));  // its TLB entry is left
  entry(kWide, 5) = 0;
  EXPECT_EQ(text(run(neighbour ^ 0x1000)), "0");
  entry(kWide, 5) = was;
}

// ---- 3 levels: a processor in PAE mode

class PaeTest : public ProcessorTest {
 protected:
  PaeTest() { pae(); }
  void pae() {
    controls.levels = 3;
    controls.gva_bits = 32;
    memory.alloc_table(controls.root, true);
  }
};

constexpr std::uint64_t kLow = 0xc234'5000;

TEST_F(PaeTest, WalksThroughThePdpteRegisters) {
  entry(kLow, 1) = frame(5) | kP | kW | kU;
  const Result r = run(kLow + 8, AccessKind::kWrite, 7);
  EXPECT_EQ(text(r), "ok");
  EXPECT_EQ(memory.peek(kHvaBase + 0x5008, 8), 7u);
  EXPECT_EQ(entry(kLow, 1) & (kA | kD), kA | kD);
  EXPECT_TRUE(entry(kLow, 2) & kA);
  EXPECT_FALSE(entry(kLow, 3) & kA);  // bit 5 is reserved there
  EXPECT_EQ(text(run(0x1000)), "0");
}

TEST_F(PaeTest, PdptesCarryNoRights) {
  entry(kLow, 1) = frame(5) | kP | kW | kU;
  controls.cpl = 3;
  EXPECT_EQ(text(run(kLow, AccessKind::kWrite)), "ok");
}

TEST_F(PaeTest, RootIsAlignedTo32Bytes) {
  controls.root += 0x60;
  entry(kLow, 1) = frame(5) | kP;
  EXPECT_EQ(text(run(kLow)), "ok");
}

TEST_F(PaeTest, AddressesAreTakenModulo4G) {
  entry(kLow, 1) = frame(5) | kP;
  EXPECT_EQ(run(0xffff'7fff'0000'0000 | kLow).value, seed_word(0x5000));
  entry(0xffff'f000, 1) = frame(6) | kP;
  entry(0, 1) = frame(7) | kP;
  processor.flush({});
  const Result r = run(0xffff'fffc);
  EXPECT_EQ(text(r), "ok");
  EXPECT_EQ(r.value, seed_word(0x6ff8) >> 32 | seed_word(0x7000) << 32);
  entry(0, 1) = 0;
  processor.flush({});
  EXPECT_EQ(run(0xffff'fffc).fault_gva, 0u);
}

TEST_F(PaeTest, PdptesServeUntilAFlushOrAnotherRoot) {
  entry(kLow, 1) = frame(5) | kP;
  run(kLow);
  std::uint64_t& pdpte = entry(kLow, 3);
  const std::uint64_t was = pdpte, neighbour = kLow ^ 0x20'0000;  // of the same PDPTE only
  entry(neighbour, 1) = frame(6) | kP;
  pdpte = 0;
  EXPECT_EQ(run(neighbour).value, seed_word(0x6000));
  processor.flush({Flush::Kind::kAddress, 0, 0, neighbour});
  EXPECT_EQ(run(neighbour).value, seed_word(0x6000));
  processor.flush({Flush::Kind::kAll, 1, 0, 0});
  processor.flush({Flush::Kind::kAddress, 0, 0, neighbour});
  EXPECT_EQ(run(neighbour).value, seed_word(0x6000));
  processor.flush({Flush::Kind::kPcid, 0, 0, 0});
  EXPECT_EQ(text(run(neighbour)), "0");
  pdpte = was;
  EXPECT_EQ(text(run(neighbour)), "0");  // what is not present serves as well
  const std::uint64_t root = controls.root;
  memory.alloc_table(controls.root, true);
  EXPECT_EQ(text(run(neighbour)), "0");
  controls.root = root;
  EXPECT_EQ(text(run(neighbour)), "ok");
}

TEST_F(PaeTest, ARootAbove4GFailsTheEntry) {
  entry(kLow, 1) = frame(5) | kP;
  memory.alloc_table(controls.root);
  entry(kLow, 1) = frame(5) | kP;
  EXPECT_EQ(text(run(kLow)), "entry failed");
}

TEST_F(PaeTest, TheTlbOutlivesThePdpteRegisters) {
  entry(kLow, 1) = frame(5) | kP;
  run(kLow);
  memory.alloc_table(controls.root, true);  // another root, the same tag
  EXPECT_EQ(run(kLow).value, seed_word(0x5000));
  EXPECT_EQ(run(kLow ^ 0x1000).error_code, 0u);  // by the PDE cache: the table's next entry
}

TEST_F(PaeTest, AReservedBitInAPresentPdpteFailsTheEntry) {
  for (const unsigned n : {1u, 2u, 5u, 6u, 7u, 8u, 46u, 51u, 52u, 62u, 63u}) {
    start({});
    pae();
    entry(kLow, 1) = frame(5) | kP;
    entry(kLow, 3) |= std::uint64_t{1} << n;
    EXPECT_EQ(text(run(0x1000)), "entry failed") << n;
    entry(kLow, 3) &= ~kP;
    EXPECT_EQ(text(run(0x1000)), "0") << n;
  }
}

TEST_F(PaeTest, ReservedBitsBelowThePdptes) {
  for (const unsigned n : {46u, 52u, 59u, 62u}) {
    for (unsigned level = 1; level <= 2; ++level) {
      start({});
      pae();
      entry(kLow, 1) = frame(5) | kP;
      entry(kLow, level) |= std::uint64_t{1} << n;
      EXPECT_EQ(text(run(kLow)), "9") << n << " at level " << level;
    }
  }
  start({});
  pae();
  entry(kLow, 1) = frame(5) | kP | kXd;
  EXPECT_EQ(text(run(kLow)), "ok");
  EXPECT_EQ(text(run(kLow, AccessKind::kFetch)), "17");
}

TEST_F(PaeTest, FramesBelowThePdpteRegistersAreReached) {
  entry(kLow, 1) = frame(5) | kP;
  const std::uint64_t table = entry(kLow, 3) & 0x000f'ffff'ffff'f000;
  run(0x1000);
  EXPECT_TRUE(processor.reaches(table >> 12, 1));
  processor.flush({Flush::Kind::kAll, 0, 0, 0});
  EXPECT_FALSE(processor.reaches(table >> 12, 1));
}

TEST_F(PaeTest, AChangeOfModeDropsNothingByItself) {
  entry(kLow, 1) = frame(5) | kP;
  run(kLow);
  const std::uint64_t root = controls.root;
  controls.levels = 4;
  controls.gva_bits = 48;
  memory.alloc_table(controls.root);
  EXPECT_EQ(run(kLow).value, seed_word(0x5000));
  EXPECT_EQ(text(run(kLow | std::uint64_t{1} << 32)), "0");
  entry(kLow, 1) = frame(6) | kP;
  processor.flush({Flush::Kind::kPcid, 0, 0, 0});
  EXPECT_EQ(run(kLow).value, seed_word(0x6000));
  pae();
  controls.root = root;
  EXPECT_EQ(run(kLow).value, seed_word(0x6000));
}

TEST_F(PaeTest, GuestsOutsideLongModeAlsoRunOnDeeperTables) {
  for (std::uint8_t levels = 4; levels <= 5; ++levels) {
    start({});
    pae();
    controls.levels = levels;
    entry(kLow, 1) = frame(5) | kP;
    EXPECT_EQ(run(kLow | std::uint64_t{0xffff} << 48).value, seed_word(0x5000)) << int{levels};
  }
}

}  // namespace
}  // namespace twinwalk::processor
