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

}  // namespace
}  // namespace twinwalk::oracle
