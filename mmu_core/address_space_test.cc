// Two address spaces of guest-physical memory, and the vCPU that goes from one to the other.

#include <gtest/gtest.h>

#include <array>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kUsed;
using testing::mmio;
using testing::Outcome;
using testing::page_fault;
using Kind = MemslotRequest::Kind;

constexpr Gva kVa{0x1234'5660'0000};
constexpr Gpa kPage{0x40'0000}, kOther{0x41'0000};
constexpr Hva kSmram = kMemory + (u64{1} << 34);
constexpr u32 kId = 2;

MemslotRequest add(u32 space, u32 id, Gpa gpa, u64 pages, Hva hva, bool log = false) {
  MemslotRequest r;
  r.space = space;
  r.id = id;
  r.gfn = Gfn::of(gpa);
  r.pages = pages;
  r.hva = hva;
  r.log_dirty = log;
  return r;
}

// Both spaces begin with the same memory. kVa is mapped to kPage.
class AddressSpaces : public ::testing::Test {
 protected:
  AddressSpaces() {
    EXPECT_EQ(set(add(1, 0, Gpa{}, Guest::kPages, kMemory)), Status::kOk);
    guest_.map(kVa, kPage);
  }
  Status set(const MemslotRequest& r) { return guest_.set_memslot(r); }
  void smm(bool in, u32 vcpu = 0) {
    EXPECT_TRUE(guest_.cpu(vcpu).set_smm(in));
    guest_.audit();
  }
  Status remove(u32 space, u32 id) {
    MemslotRequest r;
    r.kind = Kind::kDelete;
    r.space = space;
    r.id = id;
    return set(r);
  }
  // SMM's memory from `gpa` on is SMRAM; below and above it there is none.
  void only_smram_at(Gpa gpa, u64 pages) {
    EXPECT_EQ(remove(1, 0), Status::kOk);
    EXPECT_EQ(set(add(1, kId, gpa, pages, kSmram)), Status::kOk);
  }
  // SMM sees SMRAM at kPage and the same as everybody elsewhere.
  void smram_over_page() {
    EXPECT_EQ(remove(1, 0), Status::kOk);
    EXPECT_EQ(set(add(1, 0, Gpa{}, kPage.raw / kPageSize, kMemory)), Status::kOk);
    EXPECT_EQ(set(add(1, kId, kPage, 1, kSmram)), Status::kOk);
  }
  Outcome reaches_smram() { return guest_.reaches(kSmram); }
  Guest guest_;
};

TEST_F(AddressSpaces, TheSameMemoryAtFirst) {
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  smm(true);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(AddressSpaces, SlotIdsAndRangesAreOfOneSpace) {
  EXPECT_EQ(set(add(1, kId, Gpa{0x1'0000'0000}, 16, kSmram)), Status::kOk);
  EXPECT_EQ(set(add(0, kId, Gpa{0x1'0000'0000}, 16, kMemory)), Status::kOk);
  EXPECT_EQ(set(add(1, kId + 1, Gpa{0x1'0000'0000}, 1, kSmram)), Status::kInvalid) << "overlaps";
  EXPECT_EQ(set(add(kAddressSpaces, 1, Gpa{}, 1, kMemory)), Status::kInvalid) << "no such space";
  EXPECT_EQ(remove(0, kId), Status::kOk);
  EXPECT_EQ(remove(0, kId), Status::kInvalid);
  EXPECT_EQ(remove(1, kId), Status::kOk);
}

TEST_F(AddressSpaces, SmmSeesSmramWhereOthersSeeMemory) {
  smram_over_page();
  guest_.write(kVa, 0x11);
  smm(true);
  EXPECT_EQ(guest_.write(kVa, 0x22), reaches_smram());
  smm(false);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  EXPECT_EQ(guest_.read(kVa).value, 0x11u);
}

TEST_F(AddressSpaces, TablesAreReadInTheSpaceToo) {
  only_smram_at(Gpa{}, Guest::kPages);  // zeros: nothing is mapped there
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  smm(true);
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
  smm(false);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(AddressSpaces, RootWithoutMemoryInOneSpace) {
  ASSERT_EQ(remove(1, 0), Status::kOk);
  smm(true);
  EXPECT_EQ(guest_.read(kVa), page_fault(0)) << "a dummy root";
  smm(false);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage)) << "which nobody takes for the other's";
  smm(true);
  ASSERT_EQ(set(add(1, 0, Gpa{}, Guest::kPages, kMemory)), Status::kOk);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(AddressSpaces, MmioOfOneSpaceIsMemoryOfTheOther) {
  constexpr Gpa kDevice{0x1'0000'0000};
  guest_.map(kVa, kDevice);
  EXPECT_EQ(guest_.read(kVa), mmio(kDevice));
  EXPECT_EQ(guest_.read(kVa), mmio(kDevice));
  smm(true);
  EXPECT_EQ(guest_.read(kVa), mmio(kDevice));
  ASSERT_EQ(set(add(1, kId, kDevice, 1, kSmram)), Status::kOk);
  EXPECT_EQ(guest_.read(kVa), reaches_smram());
  smm(false);
  EXPECT_EQ(guest_.read(kVa), mmio(kDevice));
}

TEST_F(AddressSpaces, GenerationsOfTheSpacesAreNeverEqual) {
  testing::RecordingPlatform platform;
  Memslots slots[kAddressSpaces] = {Memslots(platform, 0), Memslots(platform, 1)};
  for (unsigned i = 0; i < 4; ++i) {
    EXPECT_NE(slots[0].generation(), slots[1].generation());
    slots[0].finish_update();
    EXPECT_NE(slots[0].generation(), slots[1].generation());
    slots[1].finish_update();
  }
}

TEST_F(AddressSpaces, ChangeDropsRootsAndFlushesTheVcpu) {
  guest_.read(kVa);
  guest_.platform.flushes.clear();
  smm(true);
  EXPECT_TRUE(guest_.platform.flushed_all());
  EXPECT_FALSE(guest_.translation(kVa).present);
  EXPECT_FALSE(guest_.cpu().set_smm(true)) << "it is there already";
}

TEST_F(AddressSpaces, PagesOfOneSpaceAreFoundAgain) {
  guest_.read(kVa);
  smm(true);
  guest_.read(kVa);
  smm(false);
  const u64 made = guest_.stats().shadow_pages;
  EXPECT_EQ(guest_.read(kVa).faults, 0u);
  EXPECT_EQ(guest_.stats().shadow_pages, made);
}

TEST_F(AddressSpaces, TablesAreWriteTrackedInTheirOwnSpace) {
  const Gpa directory = guest_.table_of(kVa, 2);
  const Gva window{0x7000'0000};
  guest_.map(window, directory);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  EXPECT_TRUE(guest_.write(window, 0).emulated) << "an upper table";
  // SMM has shadowed the tables of `window` only: there this one is an ordinary frame.
  smm(true);
  EXPECT_FALSE(guest_.write(window, 0).emulated);
  guest_.read(kVa);
  EXPECT_TRUE(guest_.write(window, 0).emulated);
}

TEST_F(AddressSpaces, EmulatedStoreIsAnnouncedInItsSpace) {
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  smm(true);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  guest_.write_physical(guest_.entry(kVa, 1), kOther.raw | kUsed);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther));
}

TEST_F(AddressSpaces, DirtyLogsAreOfASlot) {
  std::array<u64, Guest::kPages / 64> bitmap{};
  MemslotRequest log;
  log.kind = Kind::kFlags;
  log.space = 1;
  log.log_dirty = true;
  ASSERT_EQ(set(log), Status::kOk);
  guest_.write(kVa, 1);
  EXPECT_FALSE(guest_.vm().get_dirty_log(0, 0, bitmap.data(), bitmap.size())) << "not logging";
  ASSERT_TRUE(guest_.vm().get_dirty_log(1, 0, bitmap.data(), bitmap.size()));
  for (const u64 word : bitmap) EXPECT_EQ(word, 0u) << "written outside SMM";
  smm(true);
  guest_.write(kVa, 2);
  ASSERT_TRUE(guest_.vm().get_dirty_log(1, 0, bitmap.data(), bitmap.size()));
  const u64 page = kPage.raw / kPageSize;
  EXPECT_TRUE(bitmap[page / 64] & bit(page % 64));
}

TEST_F(AddressSpaces, NotifierTakesTheFrameFromBoth) {
  guest_.read(kVa);
  smm(true);
  guest_.read(kVa);
  guest_.migrate(kMemory + kPage.raw);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
  smm(false);
  EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
}

TEST_F(AddressSpaces, WithoutPagingToo) {
  smram_over_page();
  guest_.enter_mode(kNoPaging);
  const Gva gva{kPage.raw};
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage));
  smm(true);
  EXPECT_EQ(guest_.read(gva), reaches_smram());
  smm(false);
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage));
}

TEST_F(AddressSpaces, LatchedPdptesStayInSmm) {
  guest_.enter_mode(kPae);
  const Gva low{0x4000'0000};
  guest_.map(low, kPage);
  EXPECT_EQ(guest_.read(low), guest_.reaches(kPage));
  guest_.host_store(guest_.entry(low, 3), 0);
  smm(true);
  EXPECT_EQ(guest_.read(low), guest_.reaches(kPage)) << "loaded by MOV CR3, not by SMI";
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
  EXPECT_EQ(guest_.read(low), page_fault(0));
}

// They are not registers there.
TEST(AddressSpace, AmdsPdptesAreReadInIt) {
  VmConfig config;
  config.caps.vendor = Vendor::kAmd;
  Guest guest(kPae, config);
  const Gva gva{0x4000'0000};
  guest.map(gva, kPage);
  ASSERT_EQ(guest.vm().set_memslot(add(1, 0, Gpa{}, Guest::kPages, kSmram)), Status::kOk);
  EXPECT_EQ(guest.read(gva), guest.reaches(kPage));
  guest.cpu().set_smm(true);
  EXPECT_EQ(guest.read(gva), page_fault(0)) << "zeros";
  guest.cpu().set_smm(false);
  EXPECT_EQ(guest.read(gva), guest.reaches(kPage));
}

}  // namespace
}  // namespace mmu
