// AMD's processor never delivers a fault that something cached had a part in: it walks again. With
// two dimensions an access that exits to the hypervisor begins again. What the walk before has set
// stays.

#include <gtest/gtest.h>

#include "oracle/mode_bed.h"
#include "oracle/nested_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kPage = NestedBed::kPage, kFrame = NestedBed::kFrame,
                        kGva = NestedBed::kGva;
constexpr std::uint64_t k2M = 0x200000;
// A table of the guest that its present tables do not lead to.
constexpr std::uint64_t kFormerTable = kPage + 0x2000, kFormerFrame = 0x3500000;

// The guest's directory led to an empty table, and leads to the one with kGva.
class FormerTableBed : public NestedBed {
 public:
  explicit FormerTableBed(Nesting nesting, std::uint64_t former = kPwua) : NestedBed(nesting) {
    put_nested(kFormerTable, 1, kFormerFrame | leaf_bits());
    spec.write_word(kFormerFrame | (at(kGva, 1) & 0xfff), 0);
    map_guest();
    const std::uint64_t present = entry(kGva, 2);
    put(kGva, 2, kFormerTable | former);
    put(kGva + k2M, 2, present);
    enter();
    EXPECT_EQ(access_ok(AccessKind::kRead, kGva + k2M), "ok");  // the directory was walked to
    store_entry(kGva, 2, present);
  }
  std::uint64_t perhaps_set() const { return spec.open_bits(nested_at(kFormerTable, 1), 0); }
};

TEST(BeginsAgain, AWalkThatFaultedByAFormerEntryMayHaveSetFlags) {
  FormerTableBed bed(Nesting::kNpt);
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  EXPECT_EQ(bed.perhaps_set(), pte::kA | pte::kD);
}

TEST(BeginsAgain, NotByAnEntryThatWasNeverCached) {
  FormerTableBed bed(Nesting::kNpt, kPwu);
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  EXPECT_EQ(bed.perhaps_set(), 0u);
}

TEST(BeginsAgain, NorAfterTheGuestsInvalidation) {
  FormerTableBed bed(Nesting::kNpt);
  EXPECT_EQ(says(bed.invlpg(kGva)), "ok");
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  EXPECT_EQ(bed.perhaps_set(), 0u);
}

// There such a fault is delivered; an access that completes had none.
TEST(BeginsAgain, NotWithIntel) {
  FormerTableBed bed(Nesting::kEpt);
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  EXPECT_EQ(bed.perhaps_set(), 0u);
  FormerTableBed faults(Nesting::kEpt);
  EXPECT_EQ(faults.ends(AccessKind::kRead, faults.fault(kGva, 0)), "ok");
  EXPECT_EQ(faults.perhaps_set(), ept::kA | ept::kD);
}

TEST(BeginsAgain, NoFaultByAFormerEntryIsSeen) {
  FormerTableBed bed(Nesting::kNpt);
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.fault(kGva, 0)), "spurious-fault/fresh");
}

// What it may have set the access itself finds: it loads the former table's nested entry.
TEST(BeginsAgain, ALoadMayShowWhatItHadSet) {
  for (const std::uint64_t set : {std::uint64_t{0}, std::uint64_t{pte::kA}, pte::kA | pte::kD}) {
    FormerTableBed bed(Nesting::kNpt);
    const std::uint64_t at = bed.nested_at(kFormerTable, 1);
    bed.put_nested(kPage, 1, (at & pte::kAddressMask) | kPwua);
    const std::uint64_t gva = kGva | (at & 0xfff);
    Outcome load = bed.at_frame(at);
    load.value |= set;
    EXPECT_EQ(bed.ends(AccessKind::kRead, load, gva), "ok");
    if (set == 0) continue;
    load.value &= ~std::uint64_t{pte::kA};
    EXPECT_EQ(bed.ends(AccessKind::kRead, load, gva), "wrong-value/fresh") << set;
  }
}

// The guest's PDPT was the second table of a former NPT: A may have been set in a PDPTE, where it
// is reserved.
class DoubtfulPdpteBed : public NestedBed {
 public:
  DoubtfulPdpteBed() : NestedBed(Nesting::kNpt, Mode::kPae) {
    const std::uint64_t present = nested(0, 4);
    put_nested(0, 4, table(3) | kPwua);
    map_guest();
    enter();
    store_nested(0, 4, present);
    EXPECT_EQ(says(invlpg(kGva)), "ok");
  }
  std::string faults() {
    Outcome o = fault(kGva, pfec::kP | pfec::kRsvd);
    o.path[0] = {};
    return ends(AccessKind::kRead, o);
  }
  // Nothing of the former NPT is left.
  void flush() { EXPECT_EQ(enter(eptp(), 1, OutcomeKind::kDone, 3), "ok"); }
};

TEST(BeginsAgain, AReservedBitThatMayBeSetIsWhatTheAccessShows) {
  DoubtfulPdpteBed clear;
  EXPECT_EQ(clear.reads_at(kFrame), "ok");  // or by the PDPTE as it was cached before
  clear.flush();
  EXPECT_EQ(clear.reads_at(kFrame), "ok");
  EXPECT_EQ(clear.faults(), "spurious-fault/fresh");
  DoubtfulPdpteBed set;
  EXPECT_EQ(set.faults(), "ok");
  set.flush();
  EXPECT_EQ(set.reads_at(kFrame), "stale-after-flush/tlb-control");
}

TEST(BeginsAgain, NoReservedBitIsInDoubtOnceTheFormerWayIsGone) {
  DoubtfulPdpteBed bed;
  bed.flush();
  EXPECT_EQ(bed.faults(), "spurious-fault/fresh");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
}

// A guest on the core's tables: its directory led to a former page table, and the access loads the
// former table's entry.
class ExitsBed : public ModeBed {
 public:
  static constexpr std::uint64_t kLoaded = 0x5000, kTable = 0x180000, kBelow = 0x60000;
  explicit ExitsBed(Dimension core) : ModeBed(machine_on(core), Profile::kArchitecture) {
    map_at(kLoaded, 1, kTable | kLeafUsed);
    spec.write_word(former(), kBelow | kPwu);
    spec.write_word(kTable + 8 * 6, kBelow | kPwua);
    put(kLoaded, 2, kTable | kPwua);
    EXPECT_EQ(access_ok(AccessKind::kRead, kLoaded + 0x1000), "ok");  // the directory was walked
    store_entry(kLoaded, 2, upper(2));
  }
  static std::uint64_t former() { return kTable + 8 * 5; }
  std::string loads(std::uint64_t set) {
    const std::uint64_t gva = kLoaded | (former() & 0xfff);
    Outcome o = through(AccessKind::kRead, gva, former());
    o.value = kBelow | kPwu | set;
    return says(access(AccessKind::kRead, gva, o));
  }

 private:
  static Machine machine_on(Dimension core) {
    Machine m = machine_in(Mode::k4Level);
    m.core = core;
    return m;
  }
};

TEST(BeginsAgain, AnAccessThatExitedMayLoadWhatItHadSet) {
  EXPECT_EQ(ExitsBed(Dimension::kEpt).loads(0), "ok");
  EXPECT_EQ(ExitsBed(Dimension::kEpt).loads(pte::kA), "ok");
  EXPECT_EQ(ExitsBed(Dimension::kEpt).loads(pte::kA | pte::kD), "wrong-value/data") << "no store";
  EXPECT_EQ(ExitsBed(Dimension::kEpt).loads(pte::kG), "wrong-value/data");
}

TEST(BeginsAgain, NotOnceTheGuestHasInvalidated) {
  ExitsBed bed(Dimension::kEpt);
  bed.invlpg(ExitsBed::kLoaded);
  EXPECT_EQ(bed.loads(pte::kA), "wrong-value/data");
}

TEST(BeginsAgain, WithOneDimensionNothingExits) {
  EXPECT_EQ(ExitsBed(Dimension::kShadow).loads(0), "ok");
  EXPECT_EQ(ExitsBed(Dimension::kShadow).loads(pte::kA), "wrong-value/data");
}

}  // namespace
}  // namespace twinwalk::oracle
