#include "harness/core/slot_map.h"

#include <gtest/gtest.h>

namespace twinwalk {
namespace {

constexpr std::uint64_t kAlias = 0x1000'0000;

// Slot 1 shows a part of slot 0 a second time.
SlotMap with_alias() {
  SlotMap slots;
  slots.reset(std::uint64_t{64} << 20);
  slots[1] = {true, false, false, kAlias, 0x10000, kHvaBase + 0x4000};
  return slots;
}

TEST(SlotMap, FindsTheSlotThatHoldsAGpa) {
  const SlotMap slots = with_alias();
  EXPECT_EQ(slots.find(0x5000), &slots[0]);
  EXPECT_EQ(slots.find(kAlias + 0xffff), &slots[1]);
  EXPECT_EQ(slots.find(kAlias + 0x10000), nullptr);
  EXPECT_EQ(slots.find(kAlias + 8)->hva_of(kAlias + 8), kHvaBase + 0x4008);
}

TEST(SlotMap, AliasesAreSettledByTheWalk) {
  SlotMap slots = with_alias();
  EXPECT_EQ(slots.gpa_of(kHvaBase + 0x5008, kUnknownGpa), 0x5008u);
  EXPECT_EQ(slots.gpa_of(kHvaBase + 0x5008, kAlias + 0x1008), kAlias + 0x1008);
  EXPECT_EQ(slots.gpa_of(kHvaBase + 0x5008, 0x5008), 0x5008u);
  EXPECT_EQ(slots.gpa_of(kHvaBase + 0x3000, 0x9000), 0x3000u);
  slots[0] = {};
  EXPECT_EQ(slots.gpa_of(kHvaBase + 0x3000, kUnknownGpa), kUnknownGpa);
}

TEST(SlotMap, AliasesAreUnknownToWhoCannotSettleThem) {
  const SlotMap slots = with_alias();
  EXPECT_EQ(slots.only_gpa_of(kHvaBase + 0x3008), 0x3008u);
  EXPECT_EQ(slots.only_gpa_of(kHvaBase + 0x5008), kUnknownGpa);
  EXPECT_EQ(slots.only_gpa_of(kHvaBase + (std::uint64_t{64} << 20)), kUnknownGpa);
}

}  // namespace
}  // namespace twinwalk
