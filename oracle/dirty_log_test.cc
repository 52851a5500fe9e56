// What a dirty log owes.

#include <gtest/gtest.h>

#include "oracle/testbed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000, kOld = 0x40000, kNew = 0x50000;

class DirtyLogTest : public ::testing::Test {
 protected:
  Testbed bed;
  void SetUp() override {
    bed.map(kGva, kOld | kPwua);
    Op flags;
    flags.verb = Verb::kSlotFlags;
    flags.flags = slot_flag::kLogDirty;
    ASSERT_EQ(says(bed.step(flags, Outcome{})), "ok");
  }
  std::string get(std::vector<std::uint64_t> gfns) {
    bed.extra = std::move(gfns);
    Op op;
    op.verb = Verb::kDirtyGet;
    Outcome o;
    o.extra_count = static_cast<std::uint32_t>(bed.extra.size());
    return says(bed.step(op, o));
  }
};

TEST_F(DirtyLogTest, Rule28StoresAndTablesOfDirtyBitsAreOwedOnce) {
  bed.access_fresh(AccessKind::kWrite, kGva);
  EXPECT_EQ(get({kOld >> 12}), "lost-dirty-log/virtual-28") << "D was set in the page table";
  bed.access_fresh(AccessKind::kWrite, kGva);
  EXPECT_EQ(get({kOld >> 12}), "ok") << "D was set already";
  EXPECT_EQ(get({}), "ok") << "collected";
}

TEST_F(DirtyLogTest, Rule28SupersetIsFine) {
  bed.write(kNew, 0x10);
  EXPECT_EQ(get({kOld >> 12, kNew >> 12, 0x77}), "ok");
}

TEST_F(DirtyLogTest, Rule28EmulatedStoreIsOwedAndHostStoreIsNot) {
  bed.write(kNew, 0x10, Writer::kHost);
  EXPECT_EQ(get({}), "ok");
  bed.write(kNew, 0x20, Writer::kGuest);
  EXPECT_EQ(get({}), "lost-dirty-log/virtual-28");
}

}  // namespace
}  // namespace twinwalk::oracle
