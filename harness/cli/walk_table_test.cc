#include "harness/cli/walk_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "harness/trace/x86.h"

namespace twinwalk::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::uint64_t kPwu = pte::kP | pte::kW | pte::kU;

// A walk of 0x400000 down to a page at 0x5000.
oracle::WalkViewPart part_of(std::uint64_t leaf) {
  oracle::WalkViewPart part;
  part.gva = 0x400000;
  for (unsigned level = 4; level >= 1; --level) {
    oracle::WalkViewStep step;
    step.level = level;
    step.table_gpa = 0x104000 - level * 0x1000;
    step.index = level == 2 ? 2 : 0;
    step.entry_gpa = step.table_gpa + step.index * 8;
    step.entry = level == 1 ? leaf : (0x105000 - level * 0x1000) | kPwu;
    step.leaf = level == 1;
    step.writable = step.user = step.executable = true;
    part.steps.push_back(step);
  }
  part.translates = (leaf & pte::kP) != 0;
  part.gpa = 0x5000;
  return part;
}

Path path_with(const oracle::WalkViewPart& part, std::uint64_t upper, std::uint64_t leaf) {
  Path path;
  for (const oracle::WalkViewStep& step : part.steps) {
    path.entry[path.count++] = step.entry | (step.leaf ? leaf : upper);
  }
  return path;
}

TEST(WalkTable, NamesLevelIndexAndPlace) {
  const auto part = part_of(0x5000 | kPwu);
  EXPECT_THAT(walk_table(part, {}, {}), HasSubstr("PD        2  0x102010     0x103000|p|w|u"));
}

TEST(WalkTable, SaysWhatEachSideSet) {
  const auto part = part_of(0x5000 | kPwu);
  const std::string text =
      walk_table(part, path_with(part, pte::kA, pte::kA | pte::kD), path_with(part, pte::kA, 0));
  EXPECT_THAT(text, HasSubstr("0x5000|p|w|u                   +a|d           ="));
}

TEST(WalkTable, AnEntryWithAnotherAddressIsShownWhole) {
  const auto part = part_of(0x5000 | kPwu);
  Path left = path_with(part, 0, 0);
  left.entry[3] = 0x6000 | kPwu;
  EXPECT_THAT(walk_table(part, path_with(part, 0, 0), left), HasSubstr("0x6000|p|w|u"));
}

TEST(WalkTable, MarksWhatEndsTheWalk) {
  EXPECT_THAT(walk_table(part_of(0), {}, {}), HasSubstr("not present"));
  auto part = part_of(0x5000 | kPwu | pte::kPatLarge);
  part.steps[2].reserved = true;
  part.steps[2].reserved_bits = bit(13);
  EXPECT_THAT(walk_table(part, {}, {}), HasSubstr("reserved: 0x2000"));
}

TEST(WalkTable, RightsOnlyOfATranslation) {
  EXPECT_THAT(walk_table(part_of(0x5000 | kPwu), {}, {}),
              HasSubstr("user, writable, executable; 0x400000 is gpa 0x5000"));
  EXPECT_THAT(walk_table(part_of(0), {}, {}), Not(HasSubstr("rights")));
}

TEST(WalkTable, NamesThePageThatPse36Composes) {
  auto part = part_of(0x5000 | kPwu);
  part.steps = {part.steps[2]};
  part.steps[0].leaf = true;
  part.steps[0].entry = 0x80'2087;
  part.steps[0].frame = 0x1'0080'0000;
  EXPECT_THAT(walk_table(part, {}, {}), HasSubstr("page at 0x100800000"));
}

TEST(WalkTable, ShowsARegisterAndWhatMemoryHolds) {
  auto part = part_of(0x5000 | kPwu);
  part.steps.erase(part.steps.begin());
  part.steps[0].from_register = part.steps[0].memory_differs = true;
  part.steps[0].in_memory = 0x9000 | pte::kP;
  const std::string text = walk_table(part, path_with(part, 0, pte::kA), path_with(part, 0, 0));
  EXPECT_THAT(text, HasSubstr("the register; memory holds 0x9000|p"));
  EXPECT_THAT(text, HasSubstr("not shown"));
}

TEST(WalkTable, WithoutPagingThereIsOnlyTheGpa) {
  oracle::WalkViewPart part;
  part.gva = part.gpa = 0x7000;
  part.translates = true;
  EXPECT_THAT(walk_table(part, {}, {}), HasSubstr("all: paging is off; 0x7000 is gpa 0x7000"));
}

// A nested walk of `gpa` in two levels, whose leaf has A and D to be set.
oracle::NestedView nested_of(std::uint64_t gpa) {
  oracle::NestedView view;
  view.gpa = gpa;
  view.steps.resize(2);
  view.steps[0].level = 2;
  view.steps[0].at = 0x142008;
  view.steps[0].entry = view.steps[0].after = 0x143000 | ept::kR | ept::kW | ept::kX;
  view.steps[1].level = 1;
  view.steps[1].at = 0x143010;
  view.steps[1].entry = 0x3000000 | ept::kR | ept::kWb;
  view.steps[1].after = view.steps[1].entry | ept::kA | ept::kD;
  view.steps[0].present = view.steps[1].present = true;
  view.translates = true;
  view.hpa = 0x3000000;
  return view;
}

TEST(WalkTable, ANestedWalkStandsBeforeWhatItLeadsTo) {
  auto part = part_of(0x5000 | kPwu);
  part.steps[0].nested = nested_of(part.steps[0].entry_gpa);
  part.nested = nested_of(part.gpa);
  NestedLook look;
  look.kind = Nesting::kEpt;
  NestedPath left;
  left.levels = left.count = 2;
  left.at[0] = 0x142008;
  left.at[1] = 0x143010;
  left.entry[0] = part.nested.steps[0].entry;
  left.entry[1] = part.nested.steps[1].entry | ept::kA;
  look.paths[part.gpa] = left;
  const std::string text = walk_table(part, {}, {}, look);
  const std::size_t of_root = text.find("gpa 0x100000"), root = text.find("PML4");
  EXPECT_LT(of_root, text.find("EPT2"));
  EXPECT_LT(text.find("EPT1"), root);
  EXPECT_THAT(text.substr(text.find("gpa 0x5000")),
              HasSubstr("EPT1      2  0x143010     0x3000000|r|wb                 "
                        "+a|d           +a  <- hpa 0x3000000"));
  EXPECT_THAT(text, HasSubstr("0x400000 is gpa 0x5000"));
}

TEST(WalkTable, OfASubjectsOwnTablesThereIsWhatItLeft) {
  const auto part = part_of(0x5000 | kPwu);
  NestedLook look;
  look.kind = Nesting::kNpt;
  NestedPath left;
  left.levels = left.count = 1;
  left.entry[0] = 0x7000 | pte::kP | pte::kU;
  look.paths[part.gpa] = left;
  EXPECT_THAT(walk_table(part, {}, {}, look), HasSubstr("0x7000|p|u  <- translates nothing"));
}

TEST(WalkTable, WhatEndsANestedWalkIsNamed) {
  auto part = part_of(0x5000 | kPwu);
  part.nested = nested_of(part.gpa);
  part.nested.translates = false;
  part.nested.steps[1].misconfigured = true;
  part.nested.steps[1].format = "Format of an EPT Page-Table Entry that Maps a 4-KByte Page";
  NestedLook look;
  look.kind = Nesting::kEpt;
  EXPECT_THAT(walk_table(part, {}, {}, look), HasSubstr("malformed (\"Format of an EPT"));
  part.nested.steps[1].present = false;
  EXPECT_THAT(walk_table(part, {}, {}, look), HasSubstr("not present"));
}

TEST(FormerEntries, OnlyThoseThatMemoryNoLongerHolds) {
  oracle::WalkViewStale stale;
  stale.steps = part_of(0x5000 | kPwu).steps;
  stale.steps[3].former = true;
  EXPECT_EQ(former_entries(stale), "      stale       PT entry at 0x103000 was 0x5000|p|w|u\n");
}

}  // namespace
}  // namespace twinwalk::cli
