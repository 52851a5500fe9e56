#include "kvm_runner/nested/nested_tables.h"

#include <gtest/gtest.h>

#include <map>

#include "harness/trace/machine.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kAll = pte::kP | pte::kW | pte::kU;
constexpr std::uint64_t kRoot = 0x10000, kPdpt = 0x11000, kPd = 0x12000, kPt = 0x13000;

class Words final : public WordReader {
 public:
  std::map<std::uint64_t, std::uint64_t> words, runners;
  bool read_word(std::uint64_t gpa, std::uint64_t& word) const override {
    if (gpa >> 20 != 0) return false;
    const auto found = words.find(gpa);
    word = found == words.end() ? 0 : found->second;
    return true;
  }
  bool is_trace_word(std::uint64_t gpa) const override { return runners.count(gpa) == 0; }
};

// Guest-physical 0x200000 is at 0x50000; 0x400000 and on is one page at 0x80000000.
Words tables() {
  Words memory;
  memory.words = {{kRoot, kPdpt | kAll | pte::kA},
                  {kPdpt, kPd | kAll | pte::kA},
                  {kPd + 8, kPt | kAll},
                  {kPd + 16, 0x80000000 | kAll | pte::kPs},
                  {kPt, 0x50000 | pte::kP | pte::kU | pte::kXd}};
  return memory;
}

TEST(NestedTables, LeadToTheFrame) {
  const Words memory = tables();
  const NestedWalk walk = walk_nested(memory, {kRoot, 4}, 0x200123);
  ASSERT_TRUE(walk.complete);
  EXPECT_EQ(walk.gpa, 0x50123u);
  EXPECT_EQ(walk.path.count, 4);
  EXPECT_EQ(walk.common & (kAll | pte::kA), pte::kP | pte::kU);
  EXPECT_NE(walk.seen & pte::kXd, 0u);
  EXPECT_FALSE(walk.meets_runner);
  EXPECT_EQ(walk_nested(memory, {kRoot | 0x18, 4}, 0x412345).gpa, 0x80012345u);
}

TEST(NestedTables, EndWhereNothingIs) {
  const Words memory = tables();
  EXPECT_FALSE(walk_nested(memory, {kRoot, 4}, 0x201000).complete);
  EXPECT_FALSE(walk_nested(memory, {0x100000, 4}, 0).complete) << "a root outside memory";
  EXPECT_TRUE(walk_nested(memory, {kRoot, 4}, std::uint64_t{1} << 48).meets_runner) << "too wide";
}

TEST(NestedTables, HaveFiveLevels) {
  Words memory = tables();
  constexpr std::uint64_t kTop = 0x14000;
  memory.words[kTop] = kRoot | kAll;
  EXPECT_EQ(walk_nested(memory, {kTop, 5}, 0x200008).gpa, 0x50008u);
  EXPECT_FALSE(walk_nested(memory, {kTop, 5}, std::uint64_t{1} << 48).complete);
}

TEST(NestedTables, SayWhereTheRunnerIs) {
  Words memory = tables();
  memory.runners[kPd + 8] = 0;
  EXPECT_TRUE(walk_nested(memory, {kRoot, 4}, 0x200000).meets_runner);
  EXPECT_FALSE(walk_nested(memory, {kRoot, 4}, 0x400000).meets_runner);
}

TEST(NestedMemory, IsWhatTheGuestSees) {
  Words memory = tables();
  memory.words[0x50008] = 77;
  memory.runners[0x50010] = 0;
  const NestedMemory guest(memory, {kRoot, 4});
  std::uint64_t word = 0;
  ASSERT_TRUE(guest.read_word(0x200008, word));
  EXPECT_EQ(word, 77u);
  EXPECT_NE(guest.seen() & pte::kXd, 0u);
  EXPECT_FALSE(guest.read_word(0x201000, word));
  EXPECT_FALSE(guest.read_word(0x400000, word)) << "no memory is there";
  EXPECT_TRUE(guest.is_trace_word(0x200008));
  EXPECT_FALSE(guest.is_trace_word(0x200010));
}

// The guest's first table, by which nested tables are asked for it: bits of CR3 beside are no
// address.
TEST(GuestRoot, IsWhereTheModeSays) {
  Registers r;
  r.cr3 = 0x12'3456'7fff;
  EXPECT_EQ(root_of(r), 0x12'3456'7000u);
  r.efer = 0;
  EXPECT_EQ(root_of(r), 0x3456'7fe0u) << "PAE";
  r.cr4 = 0;
  EXPECT_EQ(root_of(r), 0x3456'7000u) << "32-bit";
}

TEST(NestedTables, MayBePagesOfThePool) {
  EXPECT_TRUE(may_be_nested_table(kNestedPool + 0x3008, kRoot));
  EXPECT_TRUE(may_be_nested_table(kRoot + 8, kRoot | 0x18));
  EXPECT_FALSE(may_be_nested_table(kPdpt, kRoot));
}

}  // namespace
}  // namespace twinwalk::kvm
