// Stale ways through tables in read-only memslots.

#include <gtest/gtest.h>

#include "oracle/staleness.h"
#include "oracle/testbed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000, kOld = 0x40000, kNew = 0x50000;
constexpr std::uint64_t kLeaf = Testbed::kPt + 5 * 8, kPde = Testbed::kPd;

// No walk sets A in a read-only memslot, so none is owed there.
TEST(ReadOnlyTable, Rule31ByAnEntryWithoutFlags) {
  const auto agrees = [](const Verdict& v) { return v.kind == VerdictKind::kAgree; };
  Testbed bed(Profile::kKvm);
  bed.map(kGva, kOld | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kGva);
  constexpr std::uint64_t kAlias = std::uint64_t{1} << 32, kDirectory = 0x120000, kOffset = 0xfff;
  for (const bool read_only : {true, false}) {
    Op slot;
    slot.slot = 1;
    if (!read_only) {
      slot.verb = Verb::kSlotDelete;
      ASSERT_TRUE(agrees(bed.step(slot, Outcome{})));
    }
    slot.verb = Verb::kSlotAdd;
    slot.gpa = kAlias, slot.pages = 1, slot.hva = kHvaBase + kDirectory;
    slot.flags = read_only ? slot_flag::kReadOnly : 0;
    ASSERT_TRUE(agrees(bed.step(slot, Outcome{})));
    bed.write(kLeaf, kOld | kLeafUsed);
    bed.spec.write_word(kDirectory + (kPde & kOffset), Testbed::kPt | kPwu);
    bed.write(Testbed::entry_gpa(kGva, 3), kAlias | kPwua);
    bed.invlpg(kGva);
    bed.write(kLeaf, kNew | kLeafUsed, Writer::kHost);
    const Outcome old = bed.through(AccessKind::kRead, kGva, kOld);
    EXPECT_EQ(agrees(bed.access(AccessKind::kRead, kGva, old)), read_only);
  }
}

}  // namespace
}  // namespace twinwalk::oracle
