#include "mmu_core/emulate.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::HostPage;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;
using testing::page_fault;
using Kind = EmulateResult::Kind;

constexpr Gva kVa{0x1234'5660'0000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000}, kDevice{0x1'0000'0000};
constexpr u64 kReadOnly = pte::kP | pte::kU | pte::kA | pte::kD;
constexpr u64 kPattern = 0x8877'6655'4433'2211;

class Emulate : public ::testing::Test {
 protected:
  EmulateResult run(Gva gva, Access access, unsigned size, u64 value = 0, bool implicit = false) {
    const EmulateResult r = guest_.cpu().emulate(gva, access, size, value, implicit);
    guest_.audit();
    return r;
  }
  void clear_wp() { ASSERT_TRUE(guest_.cpu().set_cr0(guest_.cpu().cr0() & ~cr0::kWp)); }
  void set_cr4(u64 bits) { ASSERT_TRUE(guest_.cpu().set_cr4(guest_.cpu().cr4() | bits)); }

  Guest guest_;
};

// Another vCPU stores to the same word between load and store: neither is lost.
TEST_F(Emulate, ReadModifyWriteIsOneStore) {
  constexpr Gva kWindow{0x1234'5680'0000};
  guest_.map(kVa, kPage);
  const Gpa word = guest_.entry(kVa, 1) + 8;
  guest_.map(kWindow, Gpa{word.raw & ~(kPageSize - 1)});
  const Gva at = kWindow + word.raw % kPageSize;
  guest_.read(kVa);  // the table is shadowed: a read-modify-write gives that up, which owes a flush
  unsigned stores = 0;
  guest_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point == YieldPoint::kBeforeFlush && stores++ == 0) guest_.host_store(word, 0x40);
  };
  EXPECT_EQ(run(at, Access::kRmw, 8, 2).kind, Kind::kRetry);
  EXPECT_EQ(guest_.load(word), 0x40u);
  const EmulateResult again = run(at, Access::kRmw, 8, 2);
  EXPECT_EQ(again.kind, Kind::kDone);
  EXPECT_EQ(again.value, 0x40u);
  EXPECT_EQ(guest_.load(word), 0x42u);
  guest_.platform.on_yield = nullptr;  // it knows a variable of this test
}

TEST_F(Emulate, LoadsOfEverySize) {
  guest_.map(kVa, kPage);
  guest_.host_store(kPage, kPattern);
  for (const unsigned size : {1u, 2u, 4u, 8u}) {
    const EmulateResult r = run(kVa, Access::kRead, size);
    EXPECT_EQ(r.value, kPattern & (~u64{0} >> (64 - 8 * size))) << "size " << size;
    EXPECT_EQ(r.gpa, kPage) << "size " << size;
  }
}

TEST_F(Emulate, StoresOfEverySizeAtEveryOffset) {
  guest_.map(kVa, kPage);
  for (const unsigned size : {1u, 2u, 4u, 8u})
    for (unsigned at = 0; at + size <= 8; ++at) {
      guest_.host_store(kPage, 0);
      EXPECT_EQ(run(kVa + at, Access::kWrite, size, kPattern).kind, Kind::kDone);
      const u64 want = (kPattern & (~u64{0} >> (64 - 8 * size))) << (8 * at);
      EXPECT_EQ(guest_.load(kPage), want) << "size " << size << " at " << at;
    }
}

TEST_F(Emulate, ReadModifyWriteAddsAndTellsTheOldValue) {
  guest_.map(kVa, kPage);
  guest_.host_store(kPage, 0xff);
  EXPECT_EQ(run(kVa, Access::kRmw, 2, 3).value, 0xffu);
  EXPECT_EQ(guest_.load(kPage), 0x102u);
}

TEST_F(Emulate, SetsAccessedAndDirty) {
  guest_.map(kVa, kPage, kRights);
  run(kVa, Access::kRead, 8);
  EXPECT_EQ(guest_.load(guest_.entry(kVa, 1)), kPage.raw | kRights | pte::kA);
  run(kVa, Access::kWrite, 8, 1);
  EXPECT_EQ(guest_.load(guest_.entry(kVa, 1)), kPage.raw | kUsed);
}

// Two pages that are no neighbours in memory.
class EmulateCrossing : public Emulate {
 protected:
  EmulateCrossing() { guest_.map(kVa, kPage); }
  static constexpr Gva kCross = kVa + 0xffd;  // three bytes on the first page
};

TEST_F(EmulateCrossing, StoresInBothFrames) {
  guest_.map(kVa + 0x1000, kOther);
  const EmulateResult r = run(kCross, Access::kWrite, 8, kPattern);
  ASSERT_EQ(r.kind, Kind::kDone);
  EXPECT_EQ(r.gpa, kPage + 0xffd);
  EXPECT_EQ(r.gpa2, kOther);
  EXPECT_EQ(guest_.load(kPage + 0xff8) >> 40, kPattern & 0xff'ffff);
  EXPECT_EQ(guest_.load(kOther), kPattern >> 24);
}

TEST_F(EmulateCrossing, LoadsFromBothFrames) {
  guest_.map(kVa + 0x1000, kOther);
  run(kCross, Access::kWrite, 8, kPattern);
  EXPECT_EQ(run(kCross, Access::kRead, 8).value, kPattern);
}

TEST_F(EmulateCrossing, FaultInTheSecondHalfNamesItAndStoresNothing) {
  const EmulateResult r = run(kCross, Access::kWrite, 8, kPattern);
  ASSERT_EQ(r.kind, Kind::kInject);
  EXPECT_EQ(r.fault_gva, kVa + 0x1000);
  EXPECT_EQ(r.error_code, pfec::kW);
  EXPECT_EQ(guest_.load(kPage + 0xff8), 0u);
}

TEST_F(EmulateCrossing, MmioInTheSecondHalfStoresNothing) {
  guest_.map(kVa + 0x1000, kDevice);
  const EmulateResult r = run(kCross, Access::kWrite, 8, kPattern);
  ASSERT_EQ(r.kind, Kind::kMmio);
  EXPECT_EQ(r.gpa, kDevice);
  EXPECT_EQ(guest_.load(kPage + 0xff8), 0u);
}

TEST_F(EmulateCrossing, MmioInTheFirstHalfIsNamedFirst) {
  guest_.map(kVa + 0x2000, kDevice);
  guest_.map(kVa + 0x3000, kDevice + 0x5000);
  EXPECT_EQ(run(kCross + 0x2000, Access::kRead, 8).gpa, kDevice + 0xffd);
}

TEST_F(EmulateCrossing, StoreIntoATableSecondTakesEffect) {
  const Gva used{0x2345'6660'0000};
  guest_.map(used, kPage);
  guest_.read(used);
  guest_.map(kVa + 0x1000, guest_.table_of(used));
  guest_.map(used, kPage);
  run(kVa + 0xffc, Access::kWrite, 8, 0);  // clears the low half of the table's entry 0
  EXPECT_EQ(guest_.read(used), page_fault(0));
}

TEST_F(Emulate, WriteToAReadOnlyPageFaults) {
  guest_.map(kVa, kPage, kReadOnly);
  EXPECT_EQ(run(kVa, Access::kWrite, 8, 1).error_code, pfec::kP | pfec::kW);
}

TEST_F(Emulate, WpOffLetsTheSupervisorWrite) {
  guest_.map(kVa, kPage, kReadOnly);
  clear_wp();
  EXPECT_EQ(run(kVa, Access::kWrite, 8, 7).kind, Kind::kDone);
  EXPECT_EQ(guest_.load(kPage), 7u);
}

TEST_F(Emulate, WpOffDoesNotLetTheUserWrite) {
  guest_.map(kVa, kPage, kReadOnly);
  clear_wp();
  guest_.set_cpl(3);
  EXPECT_EQ(run(kVa, Access::kWrite, 8, 7).error_code, pfec::kP | pfec::kW | pfec::kU);
}

TEST_F(Emulate, SmapForbidsUserPagesUnlessAcIsSet) {
  guest_.map(kVa, kPage);
  set_cr4(cr4::kSmap);
  EXPECT_EQ(run(kVa, Access::kRead, 8).error_code, pfec::kP);
  guest_.set_ac(true);
  EXPECT_EQ(run(kVa, Access::kRead, 8).kind, Kind::kDone);
  EXPECT_EQ(run(kVa, Access::kRead, 8, 0, true).kind, Kind::kInject)
      << "implicit accesses ignore AC";
}

TEST_F(Emulate, ImplicitAccessOfTheUserIsTheSupervisors) {
  guest_.map(kVa, kPage, kUsed & ~pte::kU);
  guest_.set_cpl(3);
  EXPECT_EQ(run(kVa, Access::kRead, 8).error_code, pfec::kP | pfec::kU);
  EXPECT_EQ(run(kVa, Access::kRead, 8, 0, true).kind, Kind::kDone);
}

TEST_F(Emulate, SmepForbidsFetchesFromUserPages) {
  guest_.map(kVa, kPage);
  EXPECT_EQ(run(kVa, Access::kFetch, 8).kind, Kind::kDone);
  set_cr4(cr4::kSmep);
  EXPECT_EQ(run(kVa, Access::kFetch, 8).error_code, pfec::kP | pfec::kI);
}

TEST_F(Emulate, ProtectionKeys) {
  guest_.map(kVa, kPage, pte::Pkey::put(kUsed, 5));
  set_cr4(cr4::kPke);
  guest_.set_pkru(2u << 10);  // key 5: writes disabled
  EXPECT_EQ(run(kVa, Access::kRead, 8).kind, Kind::kDone);
  EXPECT_EQ(run(kVa, Access::kWrite, 8, 1).error_code, pfec::kP | pfec::kW | pfec::kPk);
  guest_.set_pkru(1u << 10);  // all but fetches
  EXPECT_EQ(run(kVa, Access::kRead, 8).error_code, pfec::kP | pfec::kPk);
  EXPECT_EQ(run(kVa, Access::kFetch, 8).kind, Kind::kDone);
}

TEST_F(Emulate, WriteDisabledKeyDoesNotBindTheSupervisorWithWpOff) {
  guest_.map(kVa, kPage, pte::Pkey::put(kUsed, 5));
  set_cr4(cr4::kPke);
  clear_wp();
  guest_.set_pkru(2u << 10);
  EXPECT_EQ(run(kVa, Access::kWrite, 8, 1).kind, Kind::kDone);
  guest_.set_cpl(3);
  EXPECT_EQ(run(kVa, Access::kWrite, 8, 1).error_code, pfec::kP | pfec::kW | pfec::kU | pfec::kPk);
}

// The same accesses on the tables that the core builds for a processor with WP = 1.
TEST_F(Emulate, WpOffOnTheTablesKeepsTheUserOut) {
  guest_.map(kVa, kPage, kReadOnly);
  clear_wp();
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(guest_.write(kVa, 9), guest_.reaches(kPage));
    guest_.set_cpl(3);
    EXPECT_EQ(guest_.write(kVa, 9), page_fault(pfec::kP | pfec::kW | pfec::kU));
    EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage));
    guest_.set_cpl(0);
  }
}

TEST_F(Emulate, WpOffOnTheTablesKeepsSmep) {
  guest_.map(kVa, kPage, kReadOnly);
  clear_wp();
  set_cr4(cr4::kSmep);
  EXPECT_EQ(guest_.write(kVa, 9), guest_.reaches(kPage));
  EXPECT_EQ(guest_.fetch(kVa), page_fault(pfec::kP | pfec::kI));
}

TEST_F(Emulate, WpOffOnTheTablesKeepsSmap) {
  guest_.map(kVa, kPage, kReadOnly);
  clear_wp();
  set_cr4(cr4::kSmap);
  guest_.set_ac(true);
  EXPECT_TRUE(guest_.write(kVa, 9).emulated) << "an entry without U would escape SMAP";
  EXPECT_EQ(guest_.load(kPage), 9u);
  guest_.set_ac(false);
  EXPECT_EQ(guest_.write(kVa, 9), page_fault(pfec::kP | pfec::kW));
  EXPECT_EQ(guest_.read(kVa), page_fault(pfec::kP));
}

TEST_F(Emulate, WpOffOnTheTablesKeepsProtectionKeys) {
  guest_.map(kVa, kPage, pte::Pkey::put(kReadOnly, 5));
  clear_wp();
  set_cr4(cr4::kPke);
  EXPECT_EQ(guest_.write(kVa, 9), guest_.reaches(kPage));
  guest_.set_pkru(1u << 10);
  EXPECT_EQ(guest_.read(kVa), page_fault(pfec::kP | pfec::kPk));
}

TEST_F(Emulate, WriteDisabledKeyWithWpOffOnTheTables) {
  guest_.map(kVa, kPage, pte::Pkey::put(kUsed, 5));
  set_cr4(cr4::kPke);
  clear_wp();
  guest_.set_pkru(2u << 10);
  EXPECT_EQ(guest_.write(kVa, 9), guest_.reaches(kPage));
  EXPECT_EQ(guest_.load(kPage), 9u);
}

TEST_F(Emulate, PhysicalStoreWithoutMemory) {
  EXPECT_EQ(guest_.cpu().write_physical(kDevice + 4, 4, 1).kind, Kind::kMmio);
  guest_.add_slot(1, Gfn::of(kDevice), 4, kMemory + (u64{1} << 34), true);
  EXPECT_EQ(guest_.cpu().write_physical(kDevice + 4, 4, 1).kind, Kind::kMmio) << "read-only";
}

TEST_F(Emulate, PhysicalStoreAcrossTheEndOfMemoryStoresNothing) {
  const Gpa end{Guest::kPages * kPageSize};
  const EmulateResult r = guest_.cpu().write_physical(Gpa{end.raw - 4}, 8, kPattern);
  ASSERT_EQ(r.kind, Kind::kMmio);
  EXPECT_EQ(r.gpa, end);
  EXPECT_EQ(guest_.load(Gpa{end.raw - 8}), 0u);
}

// The half on the first page is not stored either.
TEST_F(Emulate, HostThatHasNoFrameToGive) {
  constexpr Gpa kEdge{kOther.raw - 4};
  HostPage& page = guest_.platform.host_page(kMemory + kOther.raw);
  page.writable = false;
  EXPECT_EQ(guest_.cpu().write_physical(kEdge, 8, kPattern).kind, Kind::kMmio);
  page.kind = FrameLookup::Kind::kNoFrame;
  EXPECT_EQ(guest_.cpu().write_physical(kEdge, 8, kPattern).kind, Kind::kNoMemory);
  page.kind = FrameLookup::Kind::kPoisoned;
  const EmulateResult r = guest_.cpu().write_physical(kEdge, 8, kPattern);
  EXPECT_EQ(r.kind, Kind::kPoisoned);
  EXPECT_EQ(r.gpa, kOther);
  EXPECT_EQ(guest_.load(Gpa{kOther.raw - 8}), 0u);
}

TEST_F(Emulate, LoadOfPoisonedMemory) {
  guest_.map(kVa, kPage);
  guest_.platform.host_page(kMemory + kPage.raw).kind = FrameLookup::Kind::kPoisoned;
  EXPECT_EQ(run(kVa + 8, Access::kRead, 8).kind, Kind::kPoisoned);
}

}  // namespace
}  // namespace mmu
