#include "oracle/walk_view.h"

#include <gtest/gtest.h>

#include "oracle/nested_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000, kOld = 0x40000, kNew = 0x50000;

AccessQuery query(const Testbed& bed, AccessKind kind, std::uint64_t gva = kGva) {
  return {gva, 8, kind, false, 0, bed.spec.registers(0)};
}

TEST(WalkView, ShowsEachLevelWithAccumulatedRights) {
  Testbed bed;
  bed.map(kGva, kOld | kLeafUsed);
  bed.spec.write_word(Testbed::entry_gpa(kGva, 3), Testbed::kPd | (kPwua & ~pte::kW) | pte::kXd);
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kWrite));
  ASSERT_EQ(view.parts.size(), 1u);
  const auto& steps = view.parts[0].steps;
  ASSERT_EQ(steps.size(), 4u);
  EXPECT_EQ(steps[0].table_gpa, Testbed::kRoot);
  EXPECT_EQ(steps[3].index, 5u);
  EXPECT_TRUE(steps[3].leaf);
  EXPECT_TRUE(steps[0].writable);
  EXPECT_FALSE(steps[1].writable);
  EXPECT_FALSE(steps[3].writable) << "R/W is the AND of all levels";
  EXPECT_FALSE(steps[3].executable) << "XD is the OR of all levels";
  EXPECT_TRUE(view.parts[0].faults);
  EXPECT_EQ(view.fresh.error_code, pfec::kP | pfec::kW);
  EXPECT_EQ(view.rule->id, "write-protect");
  EXPECT_TRUE(view.stale.empty());
}

TEST(WalkView, NamesReservedBits) {
  Testbed bed;
  bed.map(kGva, kOld | kLeafUsed | bit(45));
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead));
  EXPECT_TRUE(view.parts[0].steps[3].reserved);
  EXPECT_EQ(view.parts[0].steps[3].reserved_bits, bit(45));
  EXPECT_EQ(view.rule->id, "reserved");
}

TEST(WalkView, ListsPermittedFormerTranslations) {
  Testbed bed;
  bed.map(kGva, kOld | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.write(Testbed::entry_gpa(kGva, 1), kNew | kLeafUsed);
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead));
  EXPECT_EQ(view.fresh.gpa[0], kNew);
  ASSERT_EQ(view.stale.size(), 1u);
  EXPECT_EQ(view.stale[0].gpa, kOld);
  EXPECT_TRUE(view.stale[0].steps[3].former);
  EXPECT_EQ(view.stale[0].steps[3].former_until, 2u);
  bed.invlpg(kGva);
  EXPECT_TRUE(bed.spec.view(0, query(bed, AccessKind::kRead)).stale.empty());
}

TEST(WalkView, DecodesByMode) {
  ModeBed legacy(Mode::k32Bit);
  legacy.map_at(0, 2, 0x0140'0000 | kLeafUsed | pte::kPs | bit(13));
  const WalkView v32 = legacy.spec.view(0, legacy.ask(AccessKind::kRead, 0x5000));
  ASSERT_EQ(v32.parts[0].steps.size(), 1u);
  EXPECT_EQ(v32.mode, Mode::k32Bit);
  EXPECT_EQ(v32.parts[0].steps[0].format,
            "Format of a 32-Bit Page-Directory Entry that Maps a 4-MByte Page");
  EXPECT_EQ(v32.parts[0].steps[0].frame, bit(32) | 0x0140'0000) << "PSE-36";
  EXPECT_EQ(v32.parts[0].gpa, bit(32) | 0x0140'5000);

  ModeBed pae(Mode::kPae);
  pae.map_at(0xc000'5000, 1, kOld | kLeafUsed);
  const std::uint64_t pdpte = pae.at(0xc000'5000, 3);
  WalkView view = pae.spec.view(0, pae.ask(AccessKind::kRead, 0xc000'5000));
  ASSERT_EQ(view.parts[0].steps.size(), 3u);
  EXPECT_EQ(view.parts[0].steps[0].index, 3u);
  EXPECT_TRUE(view.parts[0].steps[0].from_register);
  EXPECT_FALSE(view.parts[0].steps[0].memory_differs);
  EXPECT_TRUE(view.parts[0].steps[0].writable) << "no rights in a PDPTE";
  const std::uint64_t loaded = pae.spec.read_word(pdpte);
  pae.write(pdpte, 0);
  view = pae.spec.view(0, pae.ask(AccessKind::kRead, 0xc000'5000));
  EXPECT_EQ(view.parts[0].steps[0].entry, loaded);
  EXPECT_TRUE(view.parts[0].steps[0].memory_differs);
  EXPECT_EQ(view.parts[0].steps[0].in_memory, 0u);
  EXPECT_TRUE(view.parts[0].translates);
  EXPECT_TRUE(view.stale.empty());
  pae.load_pdptes();
  view = pae.spec.view(0, pae.ask(AccessKind::kRead, 0xc000'5000));
  EXPECT_EQ(view.rule->id, "present");

  ModeBed none(Mode::kNone);
  view = none.spec.view(0, none.ask(AccessKind::kRead, 0x7000));
  EXPECT_TRUE(view.parts[0].steps.empty());
  EXPECT_EQ(view.parts[0].gpa, 0x7000u);
}

TEST(WalkView, CrossingHasTwoPartsAndNonCanonicalNone) {
  Testbed bed;
  bed.map(kGva, kOld | kLeafUsed);
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead, kGva + 0xffc));
  EXPECT_EQ(view.parts.size(), 2u);
  EXPECT_EQ(view.rule->id, "present");
  const WalkView none = bed.spec.view(0, query(bed, AccessKind::kRead, bit(47)));
  EXPECT_TRUE(none.parts.empty());
  EXPECT_EQ(none.rule->id, "canonical");
}

AccessQuery query(const NestedBed& bed, AccessKind kind, std::uint64_t gva = NestedBed::kGva) {
  return {gva, 8, kind, false, 0, bed.spec.registers(0)};
}

TEST(GuestWalkView, EachGuestEntryHasTheNestedWalkThatLedToIt) {
  NestedBed bed(Nesting::kEpt);
  bed.map_guest();
  bed.enter();
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kWrite));
  EXPECT_EQ(view.second, Nesting::kEpt);
  ASSERT_EQ(view.parts.size(), 1u);
  const WalkViewPart& part = view.parts[0];
  ASSERT_EQ(part.steps.size(), 4u);
  for (const WalkViewStep& s : part.steps) {
    ASSERT_EQ(s.nested.steps.size(), 3u) << "2M page at level " << s.level;
    EXPECT_EQ(s.nested.gpa, s.entry_gpa);
    EXPECT_EQ(s.nested.hpa, s.entry_gpa) << "one to one";
    EXPECT_EQ(s.nested.steps[0].at, bed.nested_at(s.entry_gpa, 4));
    EXPECT_TRUE(s.nested.steps[2].leaf);
    EXPECT_EQ(s.nested.steps[2].after, s.nested.steps[2].entry | ept::kA | ept::kD)
        << "walking the guest's tables is a write";
  }
  ASSERT_EQ(part.nested.steps.size(), 4u);
  EXPECT_EQ(part.gpa, NestedBed::kPage);
  EXPECT_EQ(part.nested.gpa, NestedBed::kPage);
  EXPECT_EQ(part.nested.hpa, NestedBed::kFrame);
  EXPECT_EQ(part.nested.steps[0].after, part.nested.steps[0].entry | ept::kA);
  EXPECT_EQ(part.nested.steps[3].format,
            "Format of an EPT Page-Table Entry that Maps a 4-KByte Page");
}

TEST(GuestWalkView, AnEntryThatCannotBeReadIsTheLast) {
  NestedBed bed(Nesting::kEpt);
  bed.map_guest();
  // The guest's directory (level 2 of its walk) moves to where nothing is mapped.
  const std::uint64_t pdpte = bed.at(NestedBed::kGva, 3);
  bed.spec.write_word(pdpte, 0x800000 | kPwua);
  bed.enter();
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead));
  EXPECT_EQ(view.fresh.kind, OutcomeKind::kEptViolation);
  const WalkViewPart& part = view.parts.at(0);
  EXPECT_EQ(part.steps.size(), 2u);
  EXPECT_FALSE(part.translates);
  EXPECT_EQ(part.nested.gpa, 0x800010u);
  EXPECT_FALSE(part.nested.translates);
  EXPECT_FALSE(part.nested.steps.back().present);
  EXPECT_EQ(view.rule->id, "ept-present");
}

TEST(GuestWalkView, AMisconfiguredEntryEndsTheNestedWalk) {
  NestedBed bed(Nesting::kEpt);
  bed.map_guest();
  bed.put_nested(NestedBed::kPage, 1, NestedBed::kFrame | ept::kW | ept::kWb);
  bed.enter();
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead));
  EXPECT_EQ(view.fresh.kind, OutcomeKind::kEptMisconfig);
  EXPECT_TRUE(view.parts.at(0).nested.steps.at(3).misconfigured);
  EXPECT_FALSE(view.parts.at(0).nested.translates);
}

TEST(GuestWalkView, OnNptAndOfAPageCrossing) {
  NestedBed bed(Nesting::kNpt);
  bed.map_guest();
  bed.map_at(NestedBed::kGva + 0x1000, 1, 0x7000 | kLeafUsed);
  bed.enter();
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead, NestedBed::kGva + 0xffc));
  EXPECT_EQ(view.second, Nesting::kNpt);
  ASSERT_EQ(view.parts.size(), 2u);
  EXPECT_EQ(view.parts[0].nested.hpa, NestedBed::kFrame + 0xffc);
  EXPECT_EQ(view.parts[1].gva, NestedBed::kGva + 0x1000);
  EXPECT_EQ(view.parts[1].nested.hpa, 0x7000u);
}

TEST(GuestWalkView, WithoutPagingThereIsOneNestedWalk) {
  NestedBed bed(Nesting::kEpt, Mode::kNone);
  bed.enter();
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead, NestedBed::kPage));
  ASSERT_EQ(view.parts.size(), 1u);
  EXPECT_TRUE(view.parts[0].steps.empty());
  EXPECT_EQ(view.parts[0].nested.hpa, NestedBed::kFrame);
}

TEST(GuestWalkView, APdpteRegisterHasNoNestedWalk) {
  NestedBed bed(Nesting::kEpt, Mode::kPae);
  bed.map_guest();
  bed.load_pdptes();
  bed.enter();
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead));
  const WalkViewPart& part = view.parts.at(0);
  ASSERT_EQ(part.steps.size(), 3u);
  EXPECT_TRUE(part.steps[0].from_register);
  EXPECT_TRUE(part.steps[0].nested.steps.empty());
  EXPECT_FALSE(part.steps[0].memory_differs);
  EXPECT_EQ(part.steps[1].nested.steps.size(), 3u);
}

TEST(GuestWalkView, ListsWhatAFormerGuestEntryPermits) {
  NestedBed bed(Nesting::kEpt);
  bed.map_guest();
  bed.enter();
  bed.reads_at(NestedBed::kFrame);
  bed.write(bed.at(NestedBed::kGva, 1), 0x7000 | kLeafUsed);
  const WalkView view = bed.spec.view(0, query(bed, AccessKind::kRead));
  EXPECT_EQ(view.fresh.gpa[0], 0x7000u);
  ASSERT_EQ(view.stale.size(), 1u);
  EXPECT_EQ(view.stale[0].gpa, NestedBed::kFrame);
  ASSERT_EQ(view.stale[0].steps.size(), 4u);
  EXPECT_TRUE(view.stale[0].steps[3].former);
  EXPECT_FALSE(view.stale[0].steps[2].former);
  bed.leave();
  bed.invvpid(1, 1);
  bed.enter();
  EXPECT_TRUE(bed.spec.view(0, query(bed, AccessKind::kRead)).stale.empty());
}

}  // namespace
}  // namespace twinwalk::oracle
