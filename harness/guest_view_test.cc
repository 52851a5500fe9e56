#include "harness/guest_view.h"

#include <gtest/gtest.h>

#include "harness/trace/x86.h"

namespace twinwalk {
namespace {

class GuestViewTest : public testing::Test {
 protected:
  GuestViewTest() : view(memory, slots) { slots.reset(std::uint64_t{64} << 20); }
  void put(std::uint64_t gpa, std::uint64_t value) {
    const SlotView* s = slots.find(gpa);
    memory.poke(s->hva_of(gpa), 8, value);
  }
  HostMemory memory;
  SlotMap slots;
  GuestView view;
};

TEST_F(GuestViewTest, WalksAsFarAsEntriesLead) {
  const std::uint64_t bits = pte::kP | pte::kW, gva = 0x40'0000;
  Path path;
  put(0x100000, 0x101000 | bits);
  EXPECT_EQ(view.walk(0x100000, gva, path), kUnknownGpa);
  EXPECT_EQ(path.count, 2);  // what memory holds from the start is never present
  put(0x101000, 0x102000 | bits);
  put(0x102010, 0x103000 | bits);
  put(0x103000, 0x5000 | bits);
  EXPECT_EQ(view.walk(0x100fff, gva + 0x123, path), 0x5123u);
  ASSERT_EQ(path.count, 4);
  EXPECT_EQ(path.entry[3], 0x5000 | bits);
  put(0x102010, 0x200000 | bits | pte::kPs);
  EXPECT_EQ(view.walk(0x100000, gva + 0x5123, path), 0x205123u);
  EXPECT_EQ(path.count, 3);
  put(0x101000, 0xf'0000'0000 | bits);  // no memory there
  EXPECT_EQ(view.walk(0x100000, gva, path), kUnknownGpa);
  EXPECT_EQ(path.count, 2);
}

}  // namespace
}  // namespace twinwalk
