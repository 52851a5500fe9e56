#include "kvm_runner/batch_rules.h"

#include <gtest/gtest.h>

#include "harness/trace/content.h"
#include "harness/trace/schema.h"

namespace twinwalk::kvm {
namespace {

Op access(AccessKind kind) {
  Op op = make_op(Verb::kAccess);
  op.kind = static_cast<std::uint64_t>(kind);
  return op;
}

Op mov(Reg reg, std::uint64_t value) {
  Op op = make_op(Verb::kMov);
  op.kind = static_cast<std::uint64_t>(reg);
  op.value = value;
  return op;
}

TEST(BatchRules, DataAccessesGoTogetherAndFetchesDoNot) {
  const Machine machine;
  const Registers now = initial_registers(machine);
  EXPECT_TRUE(may_be_batched(access(AccessKind::kRead), machine, now));
  EXPECT_TRUE(may_be_batched(access(AccessKind::kWrite), machine, now));
  EXPECT_TRUE(may_be_batched(access(AccessKind::kRmw), machine, now));
  EXPECT_FALSE(may_be_batched(access(AccessKind::kFetch), machine, now));
  Machine legacy;
  legacy.mode = Mode::kPae;
  EXPECT_FALSE(may_be_batched(access(AccessKind::kRead), legacy, initial_registers(legacy)));
}

TEST(BatchRules, HostStepsAreTheHosts) {
  const Machine machine;
  const Registers now = initial_registers(machine);
  Op write = make_op(Verb::kWrite);
  EXPECT_TRUE(may_be_batched(write, machine, now));
  write.gpa = kPage - 4;
  EXPECT_FALSE(may_be_batched(write, machine, now)) << "crosses a page";
  write.size = 4;
  EXPECT_TRUE(may_be_batched(write, machine, now));
  write.by = static_cast<std::uint64_t>(Writer::kHost);
  EXPECT_FALSE(may_be_batched(write, machine, now));
  for (const Verb verb : {Verb::kSlotAdd, Verb::kDirtyGet, Verb::kSregs, Verb::kInit,
                          Verb::kNewVcpu, Verb::kInvalidate, Verb::kZapAll})
    EXPECT_FALSE(may_be_batched(make_op(verb), machine, now)) << name_of(verb);
}

TEST(BatchRules, RegisterWritesThatMayFaultAreLeftOut) {
  Machine machine;
  machine.maxphyaddr = 40;
  Registers now = initial_registers(machine);
  EXPECT_TRUE(may_be_batched(mov(Reg::kCr3, 0x20'0000), machine, now));
  EXPECT_FALSE(may_be_batched(mov(Reg::kCr3, bit(40)), machine, now));
  EXPECT_FALSE(may_be_batched(mov(Reg::kCr3, cr3::kNoFlush), machine, now));
  now.cr4 |= cr4::kPcide;
  EXPECT_TRUE(may_be_batched(mov(Reg::kCr3, cr3::kNoFlush | 0x20'0001), machine, now));
  EXPECT_FALSE(may_be_batched(mov(Reg::kCr3, bit(62)), machine, now));
  EXPECT_FALSE(may_be_batched(mov(Reg::kCr0, now.cr0), machine, now));
  EXPECT_FALSE(may_be_batched(mov(Reg::kCr4, now.cr4), machine, now));
  EXPECT_FALSE(may_be_batched(mov(Reg::kEfer, now.efer), machine, now));
  EXPECT_TRUE(may_be_batched(mov(Reg::kCpl, 3), machine, now));
}

class ForetoldMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    ASSERT_TRUE(memory_.open(why)) << why;
    ASSERT_TRUE(memory_.reset(Machine{}, Layout{}));
  }
  std::uint64_t read(std::uint64_t gpa) const {
    std::uint64_t word = 0;
    EXPECT_TRUE(foretold_.read_word(gpa, word));
    return word;
  }
  TraceMemory memory_;
  ForetoldMemory foretold_{memory_};
};

TEST_F(ForetoldMemoryTest, CertainStoresAreSeenAndNotDone) {
  EXPECT_EQ(read(0x5000), seed_word(0x5000));
  foretold_.will_store(0x5000, 8, 0x1234);
  foretold_.will_store(0x5006, 4, 0xaabb'ccdd);
  EXPECT_EQ(read(0x5000), 0xccdd'0000'0000'1234u);
  EXPECT_EQ(read(0x5008), (seed_word(0x5008) & ~std::uint64_t{0xffff}) | 0xaabb);
  EXPECT_EQ(memory_.trace_word(0x5000), seed_word(0x5000));
  foretold_.clear();
  EXPECT_EQ(read(0x5000), seed_word(0x5000));
}

TEST_F(ForetoldMemoryTest, WhereAStoreMayLandNothingIsKnown) {
  foretold_.may_store(0x5ffc, 8);
  EXPECT_TRUE(foretold_.knows(0x5ff0));
  EXPECT_FALSE(foretold_.knows(0x5ff8));
  EXPECT_FALSE(foretold_.knows(0x6000));
  foretold_.will_store(0x6000, 4, 1);
  EXPECT_FALSE(foretold_.knows(0x6004)) << "half of it may be either";
}

// The table that a walk goes through was stored to by an access.
TEST_F(ForetoldMemoryTest, WalksThroughSuchWordsAreNotKnown) {
  const Registers r = initial_registers(Machine{});
  const std::uint64_t bits = pte::kP | pte::kW | pte::kU;
  foretold_.will_store(kInitialCr3, 8, 0x6000 | bits);
  foretold_.will_store(0x6000, 8, 0x7000 | bits);
  foretold_.will_store(0x7010, 8, 0x20'0000 | bits | pte::kPs);
  const GuestWalk found = walk(foretold_, r, 0x40'0008);
  EXPECT_TRUE(found.complete);
  EXPECT_EQ(found.gpa, 0x20'0008u);
  EXPECT_EQ(found.at[2], 0x7010u);
  EXPECT_TRUE(foretold_.knows(found));
  foretold_.may_store(0x7017, 1);
  EXPECT_FALSE(foretold_.knows(found));
}

}  // namespace
}  // namespace twinwalk::kvm
