#include "harness/core/private_memory.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "harness/core/slot_map.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kShared = std::uint64_t{1} << 39;

TEST(PrivateMemory, WithoutTheBitThereIsOneKind) {
  PrivateMemory memory;
  memory.reset(0);
  EXPECT_FALSE(memory.on());
  EXPECT_EQ(memory.shown_at(0x5000), 0x5000u);
  EXPECT_FALSE(memory.of_other_kind(0x5000));
  EXPECT_FALSE(memory.of_other_kind(kShared | 0x5000));
}

TEST(PrivateMemory, AgreesWithABitmap) {
  constexpr unsigned kPages = 64;
  std::mt19937_64 random(1);
  PrivateMemory memory;
  memory.reset(kShared);
  std::vector<bool> is_private(kPages, true);
  for (unsigned step = 0; step < 2000; ++step) {
    const unsigned first = random() % kPages, pages = 1 + random() % (kPages - first);
    const bool kind = random() % 2;
    memory.set(first * 0x1000u, pages * 0x1000u, kind);
    for (unsigned i = 0; i < pages; ++i) is_private[first + i] = kind;
    for (unsigned i = 0; i < kPages; ++i) {
      const std::uint64_t gpa = i * 0x1000u + 8;
      ASSERT_EQ(memory.of_other_kind(gpa), !is_private[i]) << step;
      ASSERT_EQ(memory.of_other_kind(gpa | kShared), is_private[i]) << step;
      ASSERT_EQ(memory.shown_at(gpa), is_private[i] ? gpa : gpa | kShared) << step;
    }
  }
}

TEST(PrivateMemory, ASlotShowsEachPageAtAnAddressOfItsKind) {
  SlotMap slots;
  slots.reset(0x100000, kShared);
  slots.kinds().set(0x5000, 0x1000, false);
  EXPECT_EQ(slots.find(0x5000), nullptr);
  ASSERT_NE(slots.find(kShared | 0x5008), nullptr);
  EXPECT_EQ(slots.find(kShared | 0x5008)->hva_of(kShared | 0x5008), kHvaBase + 0x5008);
  EXPECT_NE(slots.find(0x6000), nullptr);
  EXPECT_EQ(slots.find(kShared | 0x6000), nullptr);
  EXPECT_EQ(slots.gpa_of(kHvaBase + 0x5008, kUnknownGpa), kShared | 0x5008);
  EXPECT_EQ(slots.gpa_of(kHvaBase + 0x6008, kUnknownGpa), 0x6008u);
}

}  // namespace
}  // namespace twinwalk
