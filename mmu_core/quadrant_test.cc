#include "mmu_core/quadrant.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kRights;
using testing::kUsed;
using testing::page_fault;

constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};

PageRole role_of(unsigned level, unsigned quadrant) {
  PageRole role;
  role.set<PageRole::Level>(static_cast<u8>(level));
  role.set<PageRole::FourByte>(true);
  role.set<PageRole::Quadrant>(static_cast<u8>(quadrant));
  return role;
}

// Each of the 1024 entries has its sptes in one quadrant, and those of all quadrants tile the
// table.
TEST(Quadrant, WrittenIsTheInverseOfNumber) {
  for (const unsigned level : {1u, 2u}) {
    const unsigned quadrants = level == 1 ? 2 : 4, per = level == 1 ? 1 : 2;
    std::vector<unsigned> sptes(1024);
    for (unsigned q = 0; q < quadrants; ++q) {
      const PageRole role = role_of(level, q);
      for (unsigned i = 0; i < kEntries; ++i) {
        const unsigned n = quadrant::gpte_number(role, i);
        ASSERT_LT(n, 1024u);
        ++sptes[n];
        for (unsigned byte = 0; byte < 4; ++byte) {
          const quadrant::Span span = quadrant::written(role, n * 4 + byte);
          ASSERT_EQ(span.count, per) << "level " << level << " spte " << i;
          ASSERT_LE(span.first, i);
          ASSERT_LT(i, span.first + span.count);
          ASSERT_EQ(quadrant::written(role_of(level, (q + 1) % quadrants), n * 4).count, 0u);
        }
      }
    }
    EXPECT_EQ(std::count(sptes.begin(), sptes.end(), per), 1024) << "level " << level;
  }
}

TEST(Quadrant, EntriesOf8BytesHaveOnePage) {
  PageRole role;
  role.set<PageRole::Level>(u8{2});
  for (unsigned i = 0; i < kEntries; ++i) {
    EXPECT_EQ(quadrant::gpte_number(role, i), i);
    EXPECT_EQ(quadrant::written(role, i * 8 + 4).first, i);
    EXPECT_EQ(quadrant::written(role, i * 8 + 4).count, 1u);
  }
}

// Addresses in both halves of what one page directory entry maps.
constexpr Gva kLow{0x8000'1000}, kHigh{0x8020'1000};

TEST(Quadrant, APageTableHasTwoPages) {
  Guest g(k32Bit);
  g.map(kLow, kPage);
  g.map(kHigh, kOther);
  g.read(kLow);
  g.read(kHigh);
  EXPECT_EQ(g.entry(kLow, 2), g.entry(kHigh, 2));
  EXPECT_NE(g.translation(kLow).table, g.translation(kHigh).table);
  EXPECT_EQ(g.read(kLow), g.reaches(kPage));
  EXPECT_EQ(g.read(kHigh), g.reaches(kOther));
}

TEST(Quadrant, AStoreToADirectoryEntryDropsBothHalves) {
  Guest g(k32Bit);
  g.map(kLow, kPage);
  g.map(kHigh, kOther);
  g.read(kLow);
  g.read(kHigh);
  g.write_physical(g.entry(kLow, 2), 0, 4);
  EXPECT_FALSE(g.translation(kLow).present);
  EXPECT_FALSE(g.translation(kHigh).present);
}

TEST(Quadrant, AStoreToAPageTableEntryDropsItsOwnOnly) {
  Guest g(k32Bit);
  g.map(kLow, kPage);
  g.map(kHigh, kOther);
  g.read(kLow);
  g.read(kHigh);
  g.write_physical(g.entry(kHigh, 1), kPage.raw | kUsed, 4);
  EXPECT_TRUE(g.translation(kLow).present);
  EXPECT_FALSE(g.translation(kHigh).present);
  EXPECT_EQ(g.read(kHigh), g.reaches(kPage));
}

// Sizes and places of a store against a table of 4-byte entries: the half-new or doubly hit ones
// cost the page.
TEST(Quadrant, StoresThatAreNotOneEntryGiveTheTableUp) {
  struct Store {
    u64 offset;
    unsigned size;
    bool misaligned;
  };
  for (const Store s :
       {Store{0, 4, false}, Store{4, 4, false}, Store{0, 1, true}, Store{2, 2, true},
        Store{2, 4, true}, Store{0, 8, true}, Store{4, 8, true}}) {
    Guest g(k32Bit);
    g.map(kLow, kPage);
    g.map(kLow + kPageSize, kOther);
    g.read(kLow);
    g.read(kLow + kPageSize);
    const u64 before = g.events(Event::kPtWriteMisaligned);
    const Gpa at = g.entry(kLow, 1) + s.offset;
    g.write_physical(at, 0, s.size);
    EXPECT_EQ(g.events(Event::kPtWriteMisaligned) > before, s.misaligned)
        << "offset " << s.offset << " size " << s.size;
    if (s.offset + s.size > 4) {
      EXPECT_EQ(g.read(kLow + kPageSize), page_fault(0));
    } else {
      EXPECT_EQ(g.read(kLow + kPageSize), g.reaches(kOther));
    }
    const u64 low = g.load_entry(g.entry(kLow, 1));
    if (low == (kPage.raw | kUsed)) EXPECT_EQ(g.read(kLow), g.reaches(kPage));
    if (!(low & pte::kP)) EXPECT_EQ(g.read(kLow), page_fault(0));
  }
}

// An 8-byte entry of PAE paging written as two halves, the high one first, as such guests do.
TEST(Quadrant, EntriesOf8BytesMayBeWrittenInHalves) {
  Guest g(kPae);
  g.map(kLow, kPage);
  g.read(kLow);
  const Gpa at = g.entry(kLow, 1);
  const u64 misaligned = g.events(Event::kPtWriteMisaligned);
  g.write_physical(at + 4, 0x8000'0000, 4);
  g.write_physical(at, kOther.raw | kUsed, 4);
  EXPECT_EQ(g.events(Event::kPtWriteMisaligned), misaligned);
  EXPECT_EQ(g.read(kLow), g.reaches(kOther));
  EXPECT_EQ(g.fetch(kLow), page_fault(pfec::kP | pfec::kI)) << "XD came with the high half";
}

TEST(Quadrant, FloodingGivesTheDirectoryUp) {
  Guest g(k32Bit);
  g.map(kLow, kPage);
  g.read(kLow);
  const u64 floods = g.stats().floods;
  for (unsigned i = 0; i < 3; ++i) g.write_physical(g.entry(kLow, 2) + 4, 0, 4);
  EXPECT_GT(g.stats().floods, floods);
  EXPECT_EQ(g.read(kLow), g.reaches(kPage));
}

TEST(Quadrant, StoresToOtherQuadrantsAreNoFlood) {
  Guest g(k32Bit);
  g.map(kLow, kPage);
  g.read(kLow);
  const u64 floods = g.stats().floods;
  // Each quadrant of the directory takes two, one short of a flood.
  for (unsigned q = 0; q < 4; ++q)
    for (unsigned i = 0; i < 2; ++i) g.write_physical(g.root() + q * 1024 + 16, 0, 4);
  EXPECT_EQ(g.stats().floods, floods);
}

TEST(Quadrant, SelfMappedDirectory) {
  Guest g(k32Bit);
  g.map(kLow, kPage);
  // Entry 1023 names the directory itself: 0xffc00000 on is a window to all page tables.
  g.store_entry(g.root() + 1023 * 4, g.root().raw | kRights);
  const Gva window{0xffc0'0000 + (kLow.raw >> 12) * 4},
      directory{0xffff'f000 + (kLow.raw >> 22) * 4};
  EXPECT_EQ(g.read(kLow), g.reaches(kPage));
  EXPECT_EQ(g.access(window, Access::kRead, 0, 0, 4).value, g.load_entry(g.entry(kLow, 1)));
  g.access(window, Access::kWrite, kOther.raw | kUsed, 0, 4);
  g.cpu().invlpg(kLow);
  EXPECT_EQ(g.read(kLow), g.reaches(kOther));
  EXPECT_TRUE(g.access(directory, Access::kWrite, 0, 0, 4).emulated)
      << "the directory is a page table, too, but never writable";
  g.cpu().invlpg(kLow);
  EXPECT_EQ(g.read(kLow), page_fault(0));
}

// What stands at twice the place, where an 8-byte entry of that number would be, is still the old
// value: it must not be taken for the entry.
TEST(Quadrant, SyncReadsTheEntryItself) {
  for (const Gva va : {Gva{0x8000'1000}, Gva{0x8020'1000}}) {
    Guest g(k32Bit);
    constexpr Gva kWindow{0x1000};
    g.map(va, kPage);
    const Gpa at = g.entry(va, 1), table = g.table_of(va);
    g.store_entry(table + 8, kPage.raw | kUsed);
    g.map(kWindow, table);
    EXPECT_EQ(g.read(va), g.reaches(kPage));
    const Gva window{kWindow.raw | (at.raw & (kPageSize - 1))};
    EXPECT_FALSE(g.access(window, Access::kWrite, kOther.raw | kUsed, 0, 4).emulated);
    g.cpu().invlpg(va);
    EXPECT_EQ(g.read(va), g.reaches(kOther)) << std::hex << va.raw;
  }
}

TEST(Quadrant, Pse36ReachesBeyond4GiB) {
  VmConfig config;
  Guest g(k32Bit, config);
  const Gpa far{0x12'3440'0000};
  g.add_slot(1, Gfn::of(far), 1024, testing::kMemory + (u64{1} << 40));
  g.map(kLow, far, kUsed, 2);
  const u64 inside = kLow.raw & 0x3f'ffff;
  EXPECT_EQ(g.read(kLow).hpa,
            g.platform.host_page(testing::kMemory + (u64{1} << 40) + inside).pfn.base());
  EXPECT_EQ(
      g.read(kHigh).hpa,
      g.platform.host_page(testing::kMemory + (u64{1} << 40) + (kHigh.raw & 0x3f'ffff)).pfn.base());
}

TEST(Quadrant, PsCountsUnderPseOnly) {
  Guest g(k32Bit);
  // To CR4.PSE the entry is a page of 4M at kPage, otherwise it names a table there.
  g.map(kLow, kPage, kUsed, 2);
  const Gpa inner = kPage + ((kLow.raw >> 12) & 1023) * 4;
  g.store_entry(inner, kOther.raw | kUsed);
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(g.read(kLow), g.reaches(kPage + (kLow.raw & 0x3f'ffff))) << "time " << i;
    ASSERT_TRUE(g.cpu().set_cr4(0));
    EXPECT_EQ(g.read(kLow), g.reaches(kOther)) << "time " << i;
    ASSERT_TRUE(g.cpu().set_cr4(cr4::kPse));
  }
}

}  // namespace
}  // namespace mmu
