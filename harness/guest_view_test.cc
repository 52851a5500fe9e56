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
  static Registers in(Mode mode, std::uint64_t cr3) {
    Machine machine;
    machine.mode = mode;
    Registers r = initial_registers(machine);
    r.cr3 = cr3;
    return r;
  }
  HostMemory memory;
  SlotMap slots;
  GuestView view;
};

TEST_F(GuestViewTest, WalksAsFarAsEntriesLead) {
  const std::uint64_t bits = pte::kP | pte::kW, gva = 0x40'0000;
  Path path;
  put(0x100000, 0x101000 | bits);
  EXPECT_EQ(view.walk(in(Mode::k4Level, 0x100000), gva, path), kUnknownGpa);
  EXPECT_EQ(path.count, 2);  // what memory holds from the start is never present
  put(0x101000, 0x102000 | bits);
  put(0x102010, 0x103000 | bits);
  put(0x103000, 0x5000 | bits);
  EXPECT_EQ(view.walk(in(Mode::k4Level, 0x100fff), gva + 0x123, path), 0x5123u);
  ASSERT_EQ(path.count, 4);
  EXPECT_EQ(path.entry[3], 0x5000 | bits);
  put(0x102010, 0x200000 | bits | pte::kPs);
  EXPECT_EQ(view.walk(in(Mode::k4Level, 0x100000), gva + 0x5123, path), 0x205123u);
  EXPECT_EQ(path.count, 3);
  put(0x101000, 0xf'0000'0000 | bits);  // no memory there
  EXPECT_EQ(view.walk(in(Mode::k4Level, 0x100000), gva, path), kUnknownGpa);
  EXPECT_EQ(path.count, 2);
}

constexpr std::uint64_t kBits = pte::kP | pte::kW;

TEST_F(GuestViewTest, PagingOffHasNoPath) {
  Path path;
  EXPECT_EQ(view.walk(in(Mode::kNone, 0), 0x7'0000'5123, path), 0x5123u);
  EXPECT_EQ(path.count, 0);
}

TEST_F(GuestViewTest, EntriesOf32BitPagingAreHalvesOfWords) {
  put(0x100000, (0x101000 | kBits) << 32 | 1);
  put(0x101008, 0x5000 | kBits | (0x6000 | kBits) << 32);
  Path path;
  EXPECT_EQ(view.walk(in(Mode::k32Bit, 0xf'0010'0fff), 0x1'0040'3123, path), 0x6123u);
  ASSERT_EQ(path.count, 2);
  EXPECT_EQ(path.entry[0], 0x101000 | kBits);
  EXPECT_EQ(path.entry[1], 0x6000 | kBits);
}

TEST_F(GuestViewTest, PagesOf4MCountOnPse) {
  put(0x100000, 0x40'0000 | kBits | pte::kPs | 0x12 << 13);
  Path path;
  Registers r = in(Mode::k32Bit, 0x100000);
  EXPECT_EQ(view.walk(r, 0x20'5123, path), 0x12'0060'5123u);
  EXPECT_EQ(path.count, 1);
  r.cr4 = 0;
  put(0x100000, 0x10'1000 | kBits | pte::kPs);
  put(0x101800, 0);
  put(0x101810, (0x5000 | kBits) << 32);
  EXPECT_EQ(view.walk(r, 0x20'5123, path), 0x5123u);
  EXPECT_EQ(path.count, 2);
}

TEST_F(GuestViewTest, PaeBeginsWithThePdpteInMemory) {
  put(0x100078, 0x101000 | pte::kP);
  put(0x101000, 0x20'0000 | kBits | pte::kPs);
  Path path;
  EXPECT_EQ(view.walk(in(Mode::kPae, 0x100060), 0xc000'5123, path), 0x205123u);
  ASSERT_EQ(path.count, 2);
  EXPECT_EQ(path.entry[0], 0x101000 | pte::kP);
  put(0x100078, 0x101000 | pte::kP | pte::kPs);  // reserved, never a page
  EXPECT_EQ(view.walk(in(Mode::kPae, 0x100060), 0xc000'5123, path), 0x205123u);
}

TEST_F(GuestViewTest, FiveLevels) {
  put(0x100808, 0x101000 | kBits);
  put(0x101000, 0x102000 | kBits);
  put(0x102000, kBits | pte::kPs);
  Path path;
  EXPECT_EQ(view.walk(in(Mode::k5Level, 0x100000), 0xff01'0000'0000'5123, path), 0x5123u);
  EXPECT_EQ(path.count, 3);
}

}  // namespace
}  // namespace twinwalk
