// Changes of the paging mode at run time, by the guest's own writes and by the host.

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kRights;
using testing::kUsed;
using testing::page_fault;

constexpr Gva kVa{0x4020'1000}, kWindow{0x1000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};
constexpr const PagingMode* kPagingModes[] = {&k32Bit, &kPae, &k4Level, &k5Level};

VmConfig config(u8 host_levels = 3) {
  VmConfig c;
  c.caps.la57 = true;
  c.host_levels = host_levels;
  return c;
}

// A tree for each mode, each with a page of its own at kVa.
class ModeSwitch : public ::testing::TestWithParam<u8> {
 protected:
  ModeSwitch() : guest_(config(GetParam())) {
    for (unsigned i = 0; i < 4; ++i) {
      guest_.enter_mode(*kPagingModes[i], root_[i] = guest_.new_table());
      guest_.map(root_[i], kVa, page(i));
    }
  }
  static Gpa page(unsigned i) { return kPage + i * kPageSize; }
  // The 4-level tree's page table of kVa is at kWindow under that root.
  void open_window(Gpa root) { guest_.map(root, kWindow, guest_.table_of(root_[2], kVa)); }
  // There an ordinary store, unseen, makes kOther of kVa's page.
  void edit_through_window() {
    EXPECT_FALSE(guest_.write(kWindow + 8, kOther.raw | kUsed).emulated);
  }
  // Another root in long mode, and the window under both.
  Gpa second_root() {
    guest_.enter_mode(k4Level, root_[2]);
    const Gpa other = guest_.new_table();
    open_window(root_[2]);
    open_window(other);
    return other;
  }

  Guest guest_;
  Gpa root_[4];
};

INSTANTIATE_TEST_SUITE_P(HostLevels, ModeSwitch, ::testing::Values(u8{3}, u8{4}, u8{5}));

TEST_P(ModeSwitch, EachModeHasItsOwnTables) {
  for (unsigned from = 0; from < 4; ++from) {
    for (unsigned to = 0; to < 4; ++to) {
      guest_.enter_mode(*kPagingModes[from], root_[from]);
      EXPECT_EQ(guest_.read(kVa), guest_.reaches(page(from))) << from << " to " << to;
      guest_.enter_mode(*kPagingModes[to], root_[to]);
      EXPECT_EQ(guest_.read(kVa), guest_.reaches(page(to))) << from << " to " << to;
      guest_.enter_mode(kNoPaging);
      EXPECT_EQ(guest_.read(Gva{kOther.raw}), guest_.reaches(kOther));
    }
  }
}

// Real mode to 64-bit mode and back, as firmware and kexec do it.
TEST_P(ModeSwitch, ByTheGuestsOwnWrites) {
  Vcpu& cpu = guest_.cpu();
  const auto at = [&](Gva gva) { return guest_.read(gva); };
  guest_.enter_mode(kNoPaging);
  EXPECT_EQ(at(Gva{kOther.raw}), guest_.reaches(kOther));
  ASSERT_TRUE(cpu.set_cr3(root_[0].raw));
  ASSERT_TRUE(cpu.set_cr4(cr4::kPse));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() | cr0::kPg));
  EXPECT_EQ(at(kVa), guest_.reaches(page(0)));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() & ~cr0::kPg));
  ASSERT_TRUE(cpu.set_cr4(cr4::kPae));
  ASSERT_TRUE(cpu.set_cr3(root_[1].raw));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() | cr0::kPg));
  EXPECT_EQ(at(kVa), guest_.reaches(page(1)));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() & ~cr0::kPg));
  ASSERT_TRUE(cpu.set_efer(efer::kLme));
  ASSERT_TRUE(cpu.set_cr3(root_[2].raw));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() | cr0::kPg));
  EXPECT_EQ(cpu.efer(), efer::kLme | efer::kLma);
  EXPECT_EQ(at(kVa), guest_.reaches(page(2)));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() & ~cr0::kPg));
  ASSERT_TRUE(cpu.set_cr4(cr4::kPae | cr4::kLa57));
  ASSERT_TRUE(cpu.set_cr3(root_[3].raw));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() | cr0::kPg));
  EXPECT_EQ(at(kVa), guest_.reaches(page(3)));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() & ~cr0::kPg));
  EXPECT_EQ(cpu.efer(), efer::kLme);
  EXPECT_EQ(at(Gva{kOther.raw}), guest_.reaches(kOther));
}

// 32-bit paging and PAE paging change into each other under paging, over the same CR3.
TEST_P(ModeSwitch, PaeTogglesUnderPaging) {
  Vcpu& cpu = guest_.cpu();
  guest_.enter_mode(k32Bit, root_[0]);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(page(0)));
  const u64 entry = guest_.load_entry(guest_.entry(root_[0], kVa, 2));
  // Of the PDPTEs that PAE paging sees in the directory, those of kVa's GiB lead nowhere.
  ASSERT_TRUE(cpu.set_cr4(cpu.cr4() | cr4::kPae));
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
  ASSERT_TRUE(cpu.set_cr4(cpu.cr4() & ~cr4::kPae));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(page(0)));
  EXPECT_EQ(guest_.load_entry(guest_.entry(root_[0], kVa, 2)), entry);
}

TEST_P(ModeSwitch, EndOfPagingFlushesEverything) {
  for (unsigned i = 0; i < 4; ++i) {
    guest_.enter_mode(*kPagingModes[i], root_[i]);
    guest_.read(kVa);
    guest_.platform.flushes.clear();
    ASSERT_TRUE(guest_.cpu().set_cr0(guest_.cpu().cr0() & ~cr0::kPg));
    EXPECT_TRUE(guest_.platform.flushed_all());
  }
}

TEST_P(ModeSwitch, TheWayBackToLongModeFindsItsRoot) {
  guest_.enter_mode(k4Level, root_[2]);
  guest_.read(kVa);
  Vcpu& cpu = guest_.cpu();
  const u64 misses = guest_.events(Event::kRootMiss), pages = guest_.stats().shadow_pages;
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() & ~cr0::kPg));
  guest_.audit();
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() | cr0::kPg));
  guest_.platform.flushes.clear();
  EXPECT_EQ(guest_.read(kVa).faults, 0u);
  EXPECT_FALSE(guest_.platform.flushes.empty()) << "the hardware may know of the time between";
  EXPECT_EQ(guest_.events(Event::kRootMiss), misses);
  EXPECT_EQ(guest_.events(Event::kRootKept), 1u);
  EXPECT_EQ(guest_.stats().shadow_pages, pages);
}

// What was unsync when long mode was left is in step when it is entered again: MOV to CR0 flushes.
TEST_P(ModeSwitch, AKeptRootIsSynced) {
  guest_.enter_mode(k4Level, root_[2]);
  open_window(root_[2]);
  guest_.read(kVa);
  edit_through_window();
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(page(2))) << "no invalidation yet";
  Vcpu& cpu = guest_.cpu();
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() & ~cr0::kPg));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() | cr0::kPg));
  EXPECT_EQ(guest_.events(Event::kRootKept), 0u);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
  EXPECT_EQ(guest_.events(Event::kRootKept), 1u);
}

TEST_P(ModeSwitch, ArraysAreNotKept) {
  guest_.enter_mode(kPae, root_[1]);
  guest_.read(kVa);
  const Gpa empty = guest_.new_table();
  const u64 hits = guest_.stats().root_hits;
  ASSERT_TRUE(guest_.cpu().set_cr3(empty.raw));
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
  ASSERT_TRUE(guest_.cpu().set_cr3(root_[1].raw));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(page(1)));
  EXPECT_EQ(guest_.stats().root_hits, hits);
}

// With PCIDs a CR3 may come back without a flush: what was loaded before must not.
TEST_P(ModeSwitch, PcidsBeginWithNoPreviousRoot) {
  const Gpa other = second_root();
  Vcpu& cpu = guest_.cpu();
  guest_.read(kVa);
  edit_through_window();
  ASSERT_TRUE(cpu.set_cr3(other.raw));  // flushes, but the first root is not current any more
  guest_.read(kWindow);
  ASSERT_TRUE(cpu.set_cr4(cpu.cr4() | cr4::kPcide));
  ASSERT_TRUE(cpu.set_cr3(root_[2].raw | cr3::kNoFlush));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

// A root of other rights is not synced by what is invalidated meanwhile, so it must not come back.
TEST_P(ModeSwitch, ChangedRightsForgetPreviousRoots) {
  const Gpa other = second_root();
  Vcpu& cpu = guest_.cpu();
  ASSERT_TRUE(cpu.set_cr4(cpu.cr4() | cr4::kPcide));
  ASSERT_TRUE(cpu.set_cr3(root_[2].raw | 1));
  guest_.read(kVa);
  edit_through_window();
  ASSERT_TRUE(cpu.set_cr3(other.raw | 2));
  guest_.read(kWindow);
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() ^ cr0::kWp));
  ASSERT_TRUE(cpu.invpcid(2, 0, Gva{}));
  ASSERT_TRUE(cpu.set_cr0(cpu.cr0() ^ cr0::kWp));
  ASSERT_TRUE(cpu.set_cr3(root_[2].raw | 1 | cr3::kNoFlush));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_P(ModeSwitch, Cr3OfLongModeIsUsedWithItsLow32Bits) {
  guest_.enter_mode(k32Bit, Gpa{root_[0].raw | u64{0x12} << 32});
  EXPECT_EQ(guest_.cpu().cr3(), root_[0].raw);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(page(0)));
}

// Pages of one mode say nothing in another: bits 62:52 are reserved in PAE paging only.
TEST_P(ModeSwitch, ATableSharedByTwoModesIsShadowedTwice) {
  guest_.enter_mode(kPae, root_[1]);
  const Gpa leaf = guest_.entry(root_[1], kVa, 1), table = guest_.table_of(root_[1], kVa);
  guest_.enter_mode(k4Level, root_[2]);
  // The 4-level guest's directory names the PAE guest's page table.
  guest_.store_entry(guest_.entry(root_[2], kVa, 2), table.raw | kRights);
  guest_.store_entry(leaf, kOther.raw | kUsed | bit(55));
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
  guest_.enter_mode(kPae, root_[1]);
  EXPECT_EQ(guest_.read(kVa), page_fault(pfec::kP | pfec::kRsvd));
  guest_.enter_mode(k4Level, root_[2]);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_P(ModeSwitch, SregsRefusedChangeNothing) {
  guest_.enter_mode(kPae, root_[1]);
  guest_.host_store(root_[1] + 8, guest_.load(root_[1] + 8) | pte::kW);  // reserved in a PDPTE
  Sregs s = guest_.sregs(kPae);
  s.cr3 = root_[1].raw;
  EXPECT_FALSE(guest_.cpu().set_sregs(s));
  guest_.audit();
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(page(1)));
}

TEST_P(ModeSwitch, SregsFlushEverything) {
  guest_.enter_mode(k4Level, root_[2]);
  guest_.read(kVa);
  guest_.platform.flushes.clear();
  Sregs s = guest_.sregs(k4Level);
  s.cr3 = root_[2].raw;
  ASSERT_TRUE(guest_.cpu().set_sregs(s));
  EXPECT_TRUE(guest_.platform.flushed_all());
}

// Two vCPUs in different modes over one page table frame: both see its edits.
TEST(ModeSwitchSmp, OneFrameInTwoFormats) {
  VmConfig c = config();
  c.vcpus = 2;
  Guest g(c);
  const Gpa table = g.new_table(), root32 = g.new_table();
  g.map(kVa, kPage);  // vCPU 1: 4-level
  g.host_store(g.entry(kVa, 2), table.raw | kRights);
  g.host_store(table + 8, kPage.raw | kUsed);  // entry 1 of 8 bytes; entries 2 and 3 of 4 bytes
  g.enter_mode(k32Bit, root32, 0);
  const Gva va32{0x40'2000};
  g.store_entry(root32 + (va32.raw >> 22) * 4, table.raw | kRights);
  EXPECT_EQ(g.access(va32, Access::kRead, 0, 0, 4), g.reaches(kPage));
  EXPECT_EQ(g.read(kVa, 1), g.reaches(kPage));
  g.write_physical(table + 8, kOther.raw | kUsed, 4);
  EXPECT_EQ(g.access(va32, Access::kRead, 0, 0, 4), g.reaches(kOther));
  EXPECT_EQ(g.read(kVa, 1), g.reaches(kOther));
}

}  // namespace
}  // namespace mmu
