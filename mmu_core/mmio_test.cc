#include "mmu_core/mmio.h"

#include <gtest/gtest.h>

#include "mmu_core/spte.h"
#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;
using testing::mmio;
using testing::page_fault;

constexpr Gva kVa{0x1234'5660'0000}, kTableVa{0x7000'0000'0000};
constexpr Gpa kDevice{0x1'0000'0000}, kPage{0x40'0000};  // the device lies beyond memory
constexpr Hva kMore = kMemory + (u64{1} << 34);

TEST(Mmio, GpaWithoutSlotIsReported) {
  Guest g;
  g.map(kVa, kDevice);
  EXPECT_EQ(g.read(kVa + 0x18), mmio(kDevice + 0x18));
  EXPECT_EQ(g.write(kVa + 0x18, 1), mmio(kDevice + 0x18));
}

TEST(Mmio, SecondAccessIsKnownByItsEntry) {
  Guest g;
  g.map(kVa, kDevice);
  g.read(kVa);
  EXPECT_TRUE(g.translation(kVa).reserved);
  const u64 reads = g.platform.guest_reads;
  EXPECT_EQ(g.read(kVa + 8), mmio(kDevice + 8));
  EXPECT_EQ(g.events(Event::kMmioHit), 1u);
  EXPECT_EQ(g.platform.guest_reads, reads) << "no walk of the guest's tables";
}

TEST(Mmio, HostOfFullWidthHasNoReservedBitAndWalksEachTime) {
  VmConfig config;
  config.caps.host_maxphyaddr = 52;
  Guest g(config);
  g.map(kVa, kDevice);
  EXPECT_EQ(g.read(kVa), mmio(kDevice));
  EXPECT_EQ(g.translation(kVa).entry, 0u);
  EXPECT_EQ(g.read(kVa + 8), mmio(kDevice + 8));
}

TEST(Mmio, SlotThatAppearsIsUsedAtOnce) {
  Guest g;
  g.map(kVa, kDevice);
  ASSERT_EQ(g.read(kVa), mmio(kDevice));
  g.add_slot(1, Gfn::of(kDevice), 16, kMore);
  g.platform.store(kMore, 0x55);
  EXPECT_EQ(g.read(kVa).value, 0x55u);
}

TEST(Mmio, SlotThatGoesLeavesMmio) {
  Guest g;
  g.map(kVa, kDevice);
  g.add_slot(1, Gfn::of(kDevice), 16, kMore);
  g.read(kVa);
  ASSERT_EQ(g.slot_request(MemslotRequest::Kind::kDelete, 1), Status::kOk);
  EXPECT_EQ(g.read(kVa), mmio(kDevice));
}

TEST(Mmio, EntryOfAnOlderGenerationIsMadeAnew) {
  Guest g;
  g.map(kVa, kDevice);
  g.read(kVa);
  g.add_slot(1, Gfn::of(kDevice) + 0x1000, 16, kMore);  // elsewhere
  EXPECT_EQ(g.read(kVa), mmio(kDevice));
  EXPECT_EQ(g.stats().mmio_sptes, 2u);
}

// What an entry holds of the generation comes round: an entry from before must be gone by then.
TEST(Mmio, EntryDoesNotComeToLifeWhenTheGenerationWraps) {
  constexpr u64 kUpdates = (u64{1} << kMmioGenerationBits) / kAddressSpaces;
  constexpr Gva kOtherVa = kVa + kPageSize;
  Guest g;
  g.map(kVa, kDevice);
  g.map(kOtherVa, kDevice + kPageSize);
  g.read(kVa);
  const u64 low = spte::mmio_generation(g.translation(kVa).entry);
  MemslotRequest flags;
  flags.kind = MemslotRequest::Kind::kFlags;
  for (u64 i = 1; i < kUpdates; ++i) ASSERT_EQ(g.vm().set_memslot(flags), Status::kOk);
  g.add_slot(1, Gfn::of(kDevice), 1, kMore);
  EXPECT_EQ(g.state().spaces[0].slots.generation() & spte::kMmioGenMask, low);
  EXPECT_FALSE(g.translation(kVa).reserved) << "an entry of so long ago";
  EXPECT_EQ(g.read(kVa), g.reaches(kMore));
  EXPECT_EQ(g.read(kOtherVa), mmio(kDevice + kPageSize));
}

TEST(Mmio, RightsAreChecked) {
  Guest g;
  g.map(kVa, kDevice, pte::kP | pte::kA | pte::kD | pte::kXd);
  EXPECT_EQ(g.read(kVa), mmio(kDevice));
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(g.write(kVa, 1), page_fault(pfec::kP | pfec::kW));
    EXPECT_EQ(g.fetch(kVa), page_fault(pfec::kP | pfec::kI));
    g.set_cpl(3);
    EXPECT_EQ(g.read(kVa), page_fault(pfec::kP | pfec::kU));
    g.set_cpl(0);
  }
}

TEST(Mmio, FirstWriteSetsTheGuestsDirtyBit) {
  Guest g;
  g.map(kVa, kDevice, kRights);
  ASSERT_EQ(g.read(kVa), mmio(kDevice));
  EXPECT_EQ(g.load(g.entry(kVa, 1)) & (pte::kA | pte::kD), pte::kA);
  EXPECT_EQ(g.write(kVa, 1), mmio(kDevice));
  EXPECT_EQ(g.load(g.entry(kVa, 1)) & pte::kD, pte::kD);
}

TEST(Mmio, FirstWriteUnderWpOffSetsTheGuestsDirtyBit) {
  Guest g;
  g.map(kVa, kDevice, pte::kP | pte::kU);
  ASSERT_TRUE(g.cpu().set_cr0(g.cpu().cr0() & ~cr0::kWp));
  ASSERT_EQ(g.read(kVa), mmio(kDevice));
  EXPECT_EQ(g.write(kVa, 1), mmio(kDevice));
  EXPECT_EQ(g.load(g.entry(kVa, 1)) & pte::kD, pte::kD);
}

TEST(Mmio, TakesThePlaceOfATranslation) {
  Guest g;
  g.map(kVa, kPage, kRights);
  g.read(kVa);
  g.host_store(g.entry(kVa, 1), kDevice.raw | kRights);
  EXPECT_EQ(g.write(kVa, 1), mmio(kDevice)) << "the clean page's first write faults";
  EXPECT_TRUE(g.translation(kVa).reserved);
}

TEST(Mmio, GivesItsPlaceToATranslation) {
  Guest g;
  g.map(kVa, kDevice);
  g.read(kVa);
  g.write_physical(g.entry(kVa, 1), kPage.raw | kUsed);
  EXPECT_EQ(g.read(kVa), g.reaches(kPage));
}

TEST(Mmio, UnsyncEditTakesEffectWithInvlpg) {
  Guest g;
  g.map(kVa, kDevice);
  g.map(kTableVa, g.table_of(kVa));
  g.read(kVa);
  const Gva edit = kTableVa + ((kVa.raw >> 12) & 511) * 8;
  ASSERT_FALSE(g.write(edit, kPage.raw | kUsed).emulated);
  g.cpu().invlpg(kVa);
  ASSERT_EQ(g.read(kVa), g.reaches(kPage));
  g.write(edit, (kDevice + 0x3000).raw | kUsed);
  g.cpu().invlpg(kVa);
  EXPECT_EQ(g.read(kVa), mmio(kDevice + 0x3000));
}

// A processor caches no translation of an entry that it found to be reserved, and the guest's entry
// never was: what the core remembers of MMIO must obey INVLPG and CR3 loads.
TEST(Mmio, RememberedAccessIsForgottenWithTheTable) {
  Guest g;
  g.map(kVa, kDevice);
  g.read(kVa);
  g.read(kVa);
  const Gpa second = g.new_table();
  g.map(second, kVa, kDevice + 0x5000);
  ASSERT_TRUE(g.cpu().set_cr3(second.raw));
  EXPECT_EQ(g.read(kVa), mmio(kDevice + 0x5000));
  EXPECT_EQ(g.read(kVa), mmio(kDevice + 0x5000));
}

TEST(Mmio, LargeGuestPageWithoutMemory) {
  Guest g;
  g.map(kVa, kDevice, kUsed, 2);
  EXPECT_EQ(g.read(kVa + 0x12'3458), mmio(kDevice + 0x12'3458));
  EXPECT_EQ(g.read(kVa + 0x12'3458), mmio(kDevice + 0x12'3458));
}

TEST(Mmio, LargeGuestPageHalfInMemory) {
  Guest g(VmConfig{}, (0x40'0000 >> 12) + 16);  // 64K of the 2M at kPage are memory
  g.map(kVa, kPage, kUsed, 2);
  EXPECT_EQ(g.read(kVa + 0x8000), g.reaches(kPage + 0x8000));
  EXPECT_EQ(g.read(kVa + 0x1'8000), mmio(kPage + 0x1'8000));
}

TEST(Mmio, WriteToAReadOnlySlot) {
  Guest g;
  g.add_slot(1, Gfn::of(kDevice), 16, kMore, true);
  g.map(kVa, kDevice);
  g.platform.store(kMore, 0x66);
  EXPECT_EQ(g.read(kVa).value, 0x66u);
  EXPECT_EQ(g.write(kVa, 1), mmio(kDevice));
  EXPECT_EQ(g.read(kVa).value, 0x66u);
}

TEST(Mmio, ProtectionKeysAreChecked) {
  Guest g;
  g.map(kVa, kDevice, pte::Pkey::put(kUsed, 3));
  ASSERT_TRUE(g.cpu().set_cr4(g.cpu().cr4() | cr4::kPke));
  g.set_cpl(3);
  EXPECT_EQ(g.read(kVa), mmio(kDevice));
  g.set_pkru(1u << 6);
  EXPECT_EQ(g.read(kVa), page_fault(pfec::kP | pfec::kU | pfec::kPk));
}

TEST(Mmio, GpaThatWrapsNothing) {
  VmConfig config;
  config.caps.maxphyaddr = 52;
  Guest g(config);
  const Gpa top{(u64{1} << 52) -
                kPageSize};  // the mark of an MMIO entry is among its own address bits
  g.map(kVa, top);
  EXPECT_EQ(g.read(kVa + 0x10), mmio(top + 0x10));
  EXPECT_EQ(g.read(kVa + 0x10), mmio(top + 0x10));
}

}  // namespace
}  // namespace mmu
