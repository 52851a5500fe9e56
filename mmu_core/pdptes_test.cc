#include "mmu_core/pdptes.h"

#include <gtest/gtest.h>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kUsed;
using testing::LimitedPages;
using testing::page_fault;

constexpr Gva kVa{0x4000'1000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};

VmConfig config(Vendor vendor) {
  VmConfig c;
  c.caps.vendor = vendor;
  return c;
}

// kVa's PDPTE leads to kPage; a second directory, to kOther, waits to be put in its place.
class Pdptes : public ::testing::Test {
 protected:
  explicit Pdptes(Vendor vendor = Vendor::kIntel) : guest_(kPae, config(vendor)) {
    guest_.map(kVa, kPage);
    const Gpa at = pdpte(), other = guest_.new_table();
    guest_.map(other, kVa, kOther);
    first_ = guest_.load(at);
    second_ = guest_.load(guest_.entry(other, kVa, 3));
  }
  Gpa pdpte() { return guest_.entry(kVa, 3); }
  void expect_first() { EXPECT_EQ(guest_.read(kVa), guest_.reaches(kPage)); }
  void expect_second() { EXPECT_EQ(guest_.read(kVa), guest_.reaches(kOther)); }
  // Does what the guest does make the new PDPTE count?
  template <class F>
  bool loads(F&& f) {
    guest_.host_store(pdpte(), first_);
    EXPECT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
    expect_first();
    guest_.host_store(pdpte(), second_);
    f(guest_.cpu());
    guest_.audit();
    return guest_.read(kVa) == guest_.reaches(kOther);
  }

  Guest guest_;
  u64 first_ = 0, second_ = 0;
};
class PdptesOnDemand : public Pdptes {
 protected:
  PdptesOnDemand() : Pdptes(Vendor::kAmd) {}
};

TEST_F(Pdptes, LoadedByCr3) {
  EXPECT_TRUE(loads([](Vcpu& c) { EXPECT_TRUE(c.set_cr3(c.cr3())); }));
}

TEST_F(Pdptes, LoadedByExactlyTheseBitsOfCr0) {
  for (const u64 bit : {cr0::kMp, cr0::kEm, cr0::kTs, cr0::kNe, cr0::kWp, cr0::kAm, cr0::kCd}) {
    const auto toggle = [bit](Vcpu& c) { EXPECT_TRUE(c.set_cr0(c.cr0() ^ bit)); };
    for (unsigned i = 0; i < 2; ++i)
      EXPECT_EQ(loads(toggle), bit == cr0::kCd) << "CR0 bit 0x" << std::hex << bit;
  }
  ASSERT_TRUE(guest_.cpu().set_cr0(guest_.cpu().cr0() | cr0::kCd));
  for (unsigned i = 0; i < 2; ++i)
    EXPECT_TRUE(loads([](Vcpu& c) { EXPECT_TRUE(c.set_cr0(c.cr0() ^ cr0::kNw)); }));
}

TEST_F(Pdptes, LoadedByExactlyTheseBitsOfCr4) {
  guest_.set_ac(true);  // SMAP shall not hide the page
  constexpr u64 kLoading = cr4::kPge | cr4::kPse | cr4::kSmep;
  for (const u64 bit : {cr4::kPge, cr4::kPse, cr4::kSmep, cr4::kSmap, cr4::kPke, cr4::kMce}) {
    const auto toggle = [bit](Vcpu& c) { EXPECT_TRUE(c.set_cr4(c.cr4() ^ bit)); };
    for (unsigned i = 0; i < 2; ++i)
      EXPECT_EQ(loads(toggle), (bit & kLoading) != 0) << "CR4 bit 0x" << std::hex << bit;
  }
}

TEST_F(Pdptes, LoadedWhenPagingOrPaeBegins) {
  EXPECT_TRUE(loads([](Vcpu& c) {
    EXPECT_TRUE(c.set_cr0(c.cr0() & ~cr0::kPg));
    EXPECT_TRUE(c.set_cr0(c.cr0() | cr0::kPg));
  }));
  EXPECT_TRUE(loads([](Vcpu& c) {
    EXPECT_TRUE(c.set_cr4(c.cr4() & ~cr4::kPae));
    EXPECT_TRUE(c.set_cr4(c.cr4() | cr4::kPae));
  }));
}

TEST_F(Pdptes, NothingElseLoadsThem) {
  EXPECT_FALSE(loads([](Vcpu&) {}));
  EXPECT_FALSE(loads([](Vcpu& c) { c.invlpg(kVa); }));
  EXPECT_FALSE(loads([](Vcpu& c) { EXPECT_TRUE(c.invpcid(2, 0, Gva{})); }));
  EXPECT_FALSE(loads([](Vcpu& c) { EXPECT_TRUE(c.set_efer(c.efer() ^ efer::kNxe)); }));
  EXPECT_FALSE(loads([this](Vcpu&) {
    guest_.vm().zap_all();
    guest_.write_physical(pdpte(), second_);
  }));
}

TEST_F(Pdptes, AReservedBitRefusesTheWriteAndChangesNothing) {
  for (const unsigned n : {1u, 2u, 5u, 6u, 7u, 8u, 40u, 51u, 52u, 62u, 63u}) {
    guest_.host_store(pdpte(), second_ | bit(n));
    const u64 cr0 = guest_.cpu().cr0(), cr3 = guest_.cpu().cr3(), cr4 = guest_.cpu().cr4();
    EXPECT_FALSE(guest_.cpu().set_cr3(cr3)) << "bit " << n;
    EXPECT_FALSE(guest_.cpu().set_cr0(cr0 ^ cr0::kCd)) << "bit " << n;
    EXPECT_FALSE(guest_.cpu().set_cr4(cr4 ^ cr4::kPge)) << "bit " << n;
    EXPECT_EQ(guest_.cpu().cr0(), cr0);
    EXPECT_EQ(guest_.cpu().cr3(), cr3);
    EXPECT_EQ(guest_.cpu().cr4(), cr4);
    expect_first();
  }
  for (const unsigned n : {3u, 4u, 9u, 10u, 11u}) {  // PWT, PCD, ignored
    guest_.host_store(pdpte(), second_ | bit(n));
    EXPECT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3())) << "bit " << n;
    expect_second();
  }
  guest_.host_store(pdpte(), bits(1, 63));  // nothing is reserved in one that is not present
  EXPECT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
}

TEST_F(Pdptes, TableOf32BytesMayLieAnywhereIn32) {
  guest_.host_store(guest_.root() + 0x60 + 8, second_);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw | 0x60));
  expect_second();
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.root().raw | 0x60 | 0x1f)) << "bits 4:0 are ignored";
  expect_second();
}

TEST_F(Pdptes, OutsideMemoryNoneIsPresent) {
  ASSERT_TRUE(guest_.cpu().set_cr3(0x8000'0000));
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
}

TEST_F(Pdptes, LatchedOnesOutliveTheirTable) {
  expect_first();
  const Gpa away = guest_.root();
  for (u64 i = 0; i < 4; ++i) guest_.host_store(away + i * 8, 0);
  guest_.vm().zap_all();
  expect_first();
}

TEST_F(Pdptes, ADirectoryThatAppearsIsFound) {
  const Gpa slot{0x8000'0000};
  guest_.host_store(pdpte(), slot.raw | pte::kP);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
  const Hva hva = testing::kMemory + (u64{1} << 32);
  const u64 entry = guest_.load(Gpa{(first_ & pte::kAddress)} + (kVa.raw >> 21 & 511) * 8);
  guest_.platform.store(hva + (kVa.raw >> 21 & 511) * 8, entry);
  guest_.add_slot(1, Gfn::of(slot), 1, hva);
  expect_first();
  EXPECT_EQ(guest_.slot_request(MemslotRequest::Kind::kDelete, 1), Status::kOk);
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
}

TEST_F(PdptesOnDemand, PresentOnesAreCachedUntilAnInvalidation) {
  expect_first();
  EXPECT_FALSE(loads([](Vcpu&) {})) << "nothing faults: the old one may be used";
  EXPECT_TRUE(loads([](Vcpu& c) { c.invlpg(kVa); }));
  EXPECT_TRUE(loads([](Vcpu& c) { c.invlpg(Gva{0}); })) << "INVLPG drops all of the caches";
  EXPECT_TRUE(loads([](Vcpu& c) { EXPECT_TRUE(c.invpcid(2, 0, Gva{})); }));
  EXPECT_TRUE(loads([](Vcpu& c) { EXPECT_TRUE(c.set_cr3(c.cr3())); }));
  EXPECT_TRUE(loads([this](Vcpu&) { guest_.read(Gva{0xc000'0000}); })) << "any fault reads them";
}

TEST_F(PdptesOnDemand, OneThatAppearsNeedsNoInvalidation) {
  guest_.host_store(pdpte(), 0);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
  EXPECT_EQ(guest_.read(kVa), page_fault(0));
  guest_.host_store(pdpte(), second_);
  expect_second();
}

TEST_F(PdptesOnDemand, AReservedBitFaultsAtUse) {
  for (const unsigned n : {1u, 5u, 8u, 40u, 63u}) {
    guest_.host_store(pdpte(), first_ | bit(n));
    EXPECT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3())) << "bit " << n;
    EXPECT_EQ(guest_.read(kVa), page_fault(pfec::kP | pfec::kRsvd)) << "bit " << n;
    guest_.host_store(pdpte(), first_);
    expect_first();
  }
}

// The four pages of the array, and what they cost.

TEST_F(Pdptes, OneDirectoryMayBeNamedByAll) {
  for (u64 i = 0; i < 4; ++i) guest_.host_store(guest_.root() + i * 8, first_);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
  expect_first();
  const u64 pages = guest_.stats().shadow_pages;
  for (u64 i = 0; i < 4; ++i)
    EXPECT_EQ(guest_.read(Gva{i << 30 | (kVa.raw & 0x3fff'ffff)}), guest_.reaches(kPage));
  EXPECT_EQ(guest_.stats().shadow_pages, pages);
  // One reference goes after the other (the audit recounts).
  for (u64 i = 0; i < 4; ++i) {
    guest_.host_store(guest_.root() + i * 8, 0);
    ASSERT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
    EXPECT_EQ(guest_.read(Gva{i << 30 | (kVa.raw & 0x3fff'ffff)}), page_fault(0));
    guest_.audit();
  }
}

TEST_F(Pdptes, AZappedDirectoryIsRebuiltWhicheverItIs) {
  for (u64 i = 0; i < 4; ++i) guest_.map(Gva{i << 30 | 0x1000}, kPage + i * kPageSize);
  for (u64 i = 0; i < 4; ++i) {
    for (u64 k = 0; k < 4; ++k) guest_.read(Gva{k << 30 | 0x1000});
    const Gpa directory{guest_.load(guest_.root() + i * 8) & pte::kAddress};
    // Misaligned: the directory goes, though it is a root.
    guest_.write_physical(directory + 0x803, 0, 1);
    EXPECT_GT(guest_.events(Event::kZapRoot), i);
    for (u64 k = 0; k < 4; ++k)
      EXPECT_EQ(guest_.read(Gva{k << 30 | 0x1000}), guest_.reaches(kPage + k * kPageSize))
          << "directory " << i << " zapped, read through " << k;
  }
}

// The directory is zapped by another's store while a fault below it is under way.
TEST_F(Pdptes, ADirectoryMayGoWhileAFaultIsUnderWay) {
  for (u64 i = 0; i < 4; ++i) {
    const Gva va{i << 30 | 0x40'1000};
    guest_.map(va, kPage);
    guest_.map(Gva{i << 30 | 0x1000}, kOther);
  }
  for (u64 i = 0; i < 4; ++i) {
    for (u64 k = 0; k < 4; ++k) guest_.read(Gva{k << 30 | 0x1000});
    const Gpa directory{guest_.load(guest_.root() + i * 8) & pte::kAddress};
    bool done = false;
    guest_.platform.on_yield = [&](YieldPoint point, u32) {
      if (point != YieldPoint::kAfterFrame || done) return;
      done = true;
      EXPECT_EQ(guest_.cpu().write_physical(directory + 0x803, 1, 0).kind,
                EmulateResult::Kind::kDone);
    };
    const u64 stale = guest_.events(Event::kRetryStale);
    EXPECT_EQ(guest_.read(Gva{i << 30 | 0x40'1000}), guest_.reaches(kPage)) << "GiB " << i;
    EXPECT_EQ(guest_.events(Event::kRetryStale), stale + 1) << "GiB " << i;
    EXPECT_TRUE(done);
    guest_.platform.on_yield = nullptr;
  }
}

TEST_F(Pdptes, UnsyncTablesBelowEachOfTheFourAreSynced) {
  const Gva window{0x10'0000};
  for (u64 i = 0; i < 4; ++i) {
    const Gva va{i << 30 | 0x20'1000};
    guest_.map(va, kPage);
    guest_.map(window + i * kPageSize, guest_.table_of(va));
    EXPECT_EQ(guest_.read(va), guest_.reaches(kPage));
  }
  for (u64 i = 0; i < 4; ++i)
    EXPECT_FALSE(guest_.write(window + i * kPageSize + 8, kOther.raw | kUsed).emulated);
  EXPECT_EQ(guest_.events(Event::kUnsync), 4u);
  ASSERT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
  for (u64 i = 0; i < 4; ++i)
    EXPECT_EQ(guest_.read(Gva{i << 30 | 0x20'1000}), guest_.reaches(kOther)) << "GiB " << i;
}

TEST_F(Pdptes, WithoutMemoryForTheHostsTablesThereIsNoRoot) {
  for (const u8 host_levels : {u8{3}, u8{4}, u8{5}}) {
    VmConfig c;
    c.host_levels = host_levels;
    for (u64 n = 0;; ++n) {
      Guest g(kPae, c);
      g.map(kVa, kPage);
      g.platform.table_source = LimitedPages(n);
      const bool ok = g.cpu().enter().ok;
      g.audit();
      g.platform.table_source = LimitedPages();
      EXPECT_EQ(g.read(kVa), g.reaches(kPage));
      if (ok) {
        EXPECT_GE(n, host_levels - 2u + 4);
        break;
      }
    }
  }
}

}  // namespace
}  // namespace mmu
