// What an EPT violation drops, and what it leaves. SDM 3C §"Operations that Invalidate Cached
// Mappings".

#include <gtest/gtest.h>

#include "oracle/nested_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kPage = NestedBed::kPage, kFrame = NestedBed::kFrame,
                        kGva = NestedBed::kGva;
constexpr std::uint64_t kTable = kPage + 0x2000, kTableFrame = 0x3500000;

// On EPT without flags. kGva's table lies in a page of its own that EPT lets nobody write, and the
// leaf in it lacks A.
class ReadOnlyTableBed : public NestedBed {
 public:
  explicit ReadOnlyTableBed(std::uint64_t directory = kPwua) : NestedBed(Nesting::kEpt) {
    put_nested(kTable, 1, kTableFrame | ept::kR | ept::kWb);
    map_guest();
    put(kGva, 2, kTable | directory);
    spec.write_word(kTableFrame | (entry_gpa() & 0xfff), kPage | kPwu);
    EXPECT_EQ(enter(false), "ok");
  }
  std::uint64_t entry_gpa() const { return kTable | (at(kGva, 1) & 0xfff); }
  Outcome at_table(std::uint64_t says) const {
    return violation(says | eqx::kGvaValid, entry_gpa(), kGva);
  }
  void unmap_table() { store_nested(kTable, 1, 0); }
};

constexpr std::uint64_t kUpdate = eqx::kWrite, kOnlyReadable = eqx::kReadable;

TEST(Violation, AnUpdateOfAGuestEntryIsAWrite) {
  ReadOnlyTableBed bed;
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(kUpdate | kOnlyReadable)), "ok");
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(kUpdate)), "spurious-fault/fresh");
}

// The directory's entry is cached with the address of the table: the violation at that address is
// not of a linear address's translation, so that this stays, time after time.
TEST(Violation, OfATableLeavesCombinedStructures) {
  ReadOnlyTableBed bed;
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(kUpdate | kOnlyReadable)), "ok");
  bed.unmap_table();
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(kUpdate)), "ok") << i;
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(eqx::kRead)), "ok");
  EXPECT_EQ(bed.invept(1, bed.eptp(false)), "ok");
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(kUpdate)), "stale-after-flush/invept");
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(eqx::kRead)), "ok");
}

// What the table has now is read there, also what came after the violation.
TEST(Violation, ByCombinedStructuresATableIsReadAsItIs) {
  ReadOnlyTableBed bed;
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(kUpdate | kOnlyReadable)), "ok");
  bed.unmap_table();
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(eqx::kRead)), "ok");
  bed.write(kTableFrame | (bed.entry_gpa() & 0xfff), kPage | kLeafUsed);
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(says(bed.invlpg(kGva + 0x200000)), "ok");  // all structures of the PCID
  bed.write(kTableFrame | (bed.entry_gpa() & 0xfff), 0);
  bed.write(kTableFrame | (bed.entry_gpa() & 0xfff), (kPage + 0x1000) | kLeafUsed);
  bed.put_nested(kPage + 0x1000, 1, NestedBed::kOther | kRwxWb);
  EXPECT_EQ(bed.reads_at(NestedBed::kOther), "stale-after-flush/stale-6");
}

// From a directory entry without A nothing was cached.
TEST(Violation, ATableIsOutOfReachWhereNoStructureIsCached) {
  ReadOnlyTableBed bed(kPwu);
  bed.put(kGva, 2, kTable | kPwu);
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(kUpdate | kOnlyReadable)), "ok");
  bed.put(kGva, 2, kTable | kPwu);  // A is cleared
  bed.unmap_table();
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.at_table(eqx::kRead)), "ok");
}

// A combined mapping has the rights of both: where EPT's deny the store it does not matter that the
// guest's D is clear in it. Without that the processor walks again, and finds no page.
TEST(Violation, ByACombinedMappingWithoutTheGuestsDirtyFlag) {
  for (const bool writable : {false, true}) {
    NestedBed bed(Nesting::kEpt);
    const std::uint64_t bits = kRwxWb & ~(writable ? 0u : ept::kW);
    bed.put_nested(kPage, 1, kFrame | bits | ept::kA | ept::kD);
    bed.map_guest(kPage | kPwua);
    bed.enter();
    EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
    bed.store_entry(kGva, 1, 0);
    const std::uint64_t says = eqx::kWrite | eqx::kReadable | eqx::kExecutable | eqx::kGvaValid |
                               eqx::kFinal | eqx::kGuestUser | eqx::kGuestWritable;
    EXPECT_EQ(bed.ends(AccessKind::kWrite, bed.violation(says, kPage, kGva)),
              writable ? "wrong-exception/present" : "ok");
    // The violation has dropped it, and so has the #PF of the reference's own walk.
    EXPECT_NE(bed.ends(AccessKind::kWrite, bed.violation(says, kPage, kGva)), "ok");
  }
}

// --- Its neighbours.

constexpr std::uint64_t kUsedEpt = kRwxWb | ept::kA | ept::kD, kUsedTable = kRwx | ept::kA;
constexpr std::uint64_t kNext = kPage + 0x1000, kFar = kPage + 0x200000;  // 2M further
constexpr std::uint64_t kNextGva = kGva + 0x1000, kFarGva = kGva + 0x2000, kAt = NestedBed::kOther;
constexpr std::uint64_t kFarTable = 0x17d000, kOtherTable = 0x17e000, kOtherDirectory = 0x17f000;

// kPage was used by kGva, kNext and kFar were not; then EPT's way to them changes, to one that does
// not map kPage.
class NeighboursBed : public NestedBed {
 public:
  NeighboursBed() : NestedBed(Nesting::kEpt) {
    put_nested(kFar, 2, kFarTable | kUsedTable);
    map_guest();
    put(kNextGva, 1, kNext | kLeafUsed);
    put(kFarGva, 1, kFar | kLeafUsed);
    enter();
    EXPECT_EQ(access_ok(AccessKind::kWrite, kGva), "ok");
    for (const std::uint64_t at : {kOtherTable, kOtherDirectory})
      for (std::uint64_t i = 0; i < 16; ++i) spec.write_word(at + 8 * i, 0);
  }
  void change_directory() { store_nested(kPage, 2, kOtherTable | kUsedTable); }
  void change_directory_pointer() {
    spec.write_word(kOtherDirectory, nested(0, 2));
    store_nested(kPage, 3, kOtherDirectory | kUsedTable);
  }
  void violate() { EXPECT_EQ(ends(AccessKind::kRead, fresh(AccessKind::kRead, kGva)), "ok"); }
  void map_next() { write(nested_at(kNext, 1), kAt | kUsedEpt); }
  void map_far() { write(kFarTable + (kFar >> 12 & 511) * 8, kAt | kUsedEpt); }
};

TEST(Violation, DropsTheStructuresThatItsNeighboursUse) {
  NeighboursBed none;
  none.change_directory();
  none.map_next();
  EXPECT_EQ(none.reads_at(kAt, kNextGva), "ok");
  NeighboursBed bed;
  bed.change_directory();
  bed.violate();
  bed.map_next();
  EXPECT_EQ(bed.reads_at(kAt, kNextGva), "missed-fault/ept-present");
}

TEST(Violation, LeavesTheTranslationsOfItsNeighbours) {
  NeighboursBed bed;
  bed.change_directory();
  bed.map_next();
  bed.violate();
  EXPECT_EQ(bed.reads_at(kAt, kNextGva), "ok");
}

// The entry for the 2M around kFar is no part of kPage's way.
TEST(Violation, LeavesSmallerStructuresThatItDoesNotUse) {
  NeighboursBed bed;
  bed.change_directory_pointer();
  bed.violate();
  bed.map_far();
  EXPECT_EQ(bed.reads_at(kAt, kFarGva), "ok");
  bed.map_next();
  EXPECT_EQ(bed.reads_at(kAt, kNextGva), "missed-fault/ept-present");
}

// Of a large page smaller parts may be cached: those elsewhere do not translate the address that
// was violated. SDM 3A §"Details of TLB Use".
TEST(Violation, LeavesPartsOfALargePageElsewhere) {
  NestedBed bed(Nesting::kEpt);
  bed.put_nested(kPage, 2, kFrame | kUsedEpt | ept::kPs);
  bed.map_guest();
  bed.put(kNextGva, 1, kNext | kLeafUsed);
  bed.enter();
  EXPECT_EQ(bed.access_ok(AccessKind::kWrite, kGva), "ok");
  bed.store_nested(kPage, 2,
                   NestedBed::kOther | (kUsedEpt & ~ept::kR & ~ept::kW & ~ept::kX) | ept::kPs);
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.ends(AccessKind::kRead, bed.fresh(AccessKind::kRead, kGva)), "ok");
  EXPECT_NE(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.reads_at(kFrame + 0x1000, kNextGva), "ok");
  EXPECT_EQ(bed.invept(1, bed.eptp()), "ok");
  EXPECT_EQ(bed.reads_at(kFrame + 0x1000, kNextGva), "stale-after-flush/invept");
}

}  // namespace
}  // namespace twinwalk::oracle
