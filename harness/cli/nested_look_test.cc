#include "harness/cli/nested_look.h"

#include <gtest/gtest.h>

#include "harness/trace/parse.h"
#include "harness/trace/program.h"

namespace twinwalk::cli {
namespace {

Program program_of(const char* text) {
  const ParseResult read = parse(text, "test");
  EXPECT_TRUE(read);
  Program program;
  Lowering().lower(read.trace, program);
  return program;
}

std::uint32_t last_step(const Program& program) {
  return static_cast<std::uint32_t>(program.steps.size()) - 1;
}

constexpr const char* kBare =
    "walk 1\nmachine core=bare nested=ept memory=64M vcpus=1 host-levels=4\n"
    "ept-map ngpa=0x0 gpa=0x0 size=2M\nmap gva=0x400000 gpa=0x600000\n"
    "ept-map ngpa=0x600000 gpa=0x3000000\n"
    "vm-enter root=0x140000|wb|4-level|ad\naccess write gva=0x400000\n";

TEST(NestedLook, OfABareMachineTheTablesThatTheTraceWrote) {
  const Program program = program_of(kBare);
  const auto looks = look_at_second_dimension(
      program, {{last_step(program) - 1, {0x600000}}, {last_step(program), {0x600000, 0x800000}}});
  ASSERT_EQ(looks.size(), 2u);
  EXPECT_EQ(looks[1].kind, Nesting::kEpt);
  const NestedPath* before = looks[0].find(0x600000);
  const NestedPath* after = looks[1].find(0x600000);
  ASSERT_NE(before, nullptr);
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(after->count, 4u);
  EXPECT_EQ(after->at[0], 0x140000u);
  EXPECT_TRUE(after->leads);
  EXPECT_EQ(after->hpa, 0x3000000u);
  EXPECT_EQ(before->entry[3] | ept::kA | ept::kD, after->entry[3]);
  EXPECT_NE(before->entry[3], after->entry[3]) << "each look is after its own step";
  ASSERT_NE(looks[1].find(0x800000), nullptr);
  EXPECT_FALSE(looks[1].find(0x800000)->leads);
}

TEST(NestedLook, OfTheCoreTheTablesThatItBuilt) {
  for (const char* machine : {"core=ept", "core=npt vendor=amd"}) {
    const std::string text = std::string("walk 1\nmachine ") + machine +
                             " memory=64M vcpus=1 host-levels=4\nmap gva=0x400000 gpa=0x600000\n"
                             "access write gva=0x400000\n";
    const Program program = program_of(text.c_str());
    const auto looks =
        look_at_second_dimension(program, {{last_step(program), {0x600000, 0x700000}}});
    const NestedPath* page = looks.at(0).find(0x600000);
    ASSERT_NE(page, nullptr) << machine;
    EXPECT_TRUE(page->leads) << machine;
    EXPECT_EQ(page->count, 4u) << machine;
    const NestedPath* untouched = looks[0].find(0x700000);
    ASSERT_NE(untouched, nullptr) << machine;
    EXPECT_FALSE(untouched->leads) << machine << ": mapped on demand";
  }
}

TEST(NestedLook, InOneDimensionThereIsNothingToSee) {
  const Program program = program_of(
      "walk 1\nmachine core=shadow memory=64M vcpus=1\nmap gva=0x400000 gpa=0x5000\n"
      "access read gva=0x400000\n");
  const auto looks = look_at_second_dimension(program, {{last_step(program), {0x5000}}});
  ASSERT_EQ(looks.size(), 1u);
  EXPECT_EQ(looks[0].kind, Nesting::kNone);
  EXPECT_TRUE(looks[0].paths.empty());
}

}  // namespace
}  // namespace twinwalk::cli
