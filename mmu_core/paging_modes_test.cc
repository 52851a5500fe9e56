// What every guest paging mode owes on every host table: one text for all of them.

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;
using testing::mmio;
using testing::Outcome;
using testing::page_fault;

constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000};
constexpr Gpa kOutside{0x8000'0000};  // beyond the guest's memory
constexpr const PagingMode* kModes[] = {&kNoPaging, &k32Bit, &kPae, &k4Level, &k5Level};
constexpr const char* kNames[] = {"none", "32-bit", "pae", "4-level", "5-level"};

VmConfig config(u8 host_levels) {
  VmConfig c;
  c.caps.la57 = true;
  c.host_levels = host_levels;
  return c;
}

class PagingModes : public ::testing::TestWithParam<std::tuple<unsigned, u8>> {
 protected:
  PagingModes() : guest_(mode(), config(host_levels())) {}

  static const PagingMode& mode() { return *kModes[std::get<0>(GetParam())]; }
  static u8 host_levels() { return std::get<1>(GetParam()); }
  static bool paging() { return mode().kind != Paging::kNone; }
  static u64 entry_bytes() { return mode().entry_bytes; }

  // Some addresses as far apart as the mode has them.
  static std::vector<Gva> addresses() {
    if (!paging()) return {Gva{0x1000}, kLast};
    std::vector<Gva> all = {Gva{0x1000},      Gva{0x20'0000},   Gva{0x3fff'f000}, Gva{0x4000'0000},
                            Gva{0x8040'1000}, Gva{0xc000'0000}, Gva{0xffff'e000}, Gva{0xffbf'f000}};
    if (!mode().legacy()) {
      all.emplace_back(0x7fff'ffff'f000);
      all.emplace_back(0xffff'8000'0000'0000);
      all.emplace_back(0xffff'ffff'ffff'f000);
    }
    if (mode().kind == Paging::k5Level) {
      all.emplace_back(0x00ff'ffff'ffff'f000);
      all.emplace_back(0xff00'0000'0000'0000);
    }
    return all;
  }
  static constexpr Gva kLast{Guest::kPages * kPageSize - kPageSize};

  Guest guest_;
};

INSTANTIATE_TEST_SUITE_P(EveryHost, PagingModes,
                         ::testing::Combine(::testing::Range(0u, 5u),
                                            ::testing::Values(u8{3}, u8{4}, u8{5})),
                         [](const auto& info) {
                           std::string name = kNames[std::get<0>(info.param)];
                           for (char& c : name)
                             if (c == '-') c = '_';
                           return name + "_on_" + std::to_string(std::get<1>(info.param));
                         });

TEST_P(PagingModes, HardwareGetsTheLevelsThatItNeeds) {
  const u8 own = mode().legacy() ? 3 : mode().levels;
  const EntryState state = guest_.cpu().enter();
  ASSERT_TRUE(state.ok);
  EXPECT_EQ(state.levels, std::max(own, host_levels()));
  EXPECT_EQ(state.root.raw % 32, 0u);
  EXPECT_EQ(state.root.raw < u64{1} << 32, state.levels == 3) << "legacy mode has 32 bits of CR3";
}

TEST_P(PagingModes, EveryAddressHasItsPage) {
  Gpa to = kPage;
  for (const Gva gva : addresses()) {
    if (paging()) guest_.map(gva, to = to + kPageSize);
    if (!paging()) to = Gpa{gva.raw};
    EXPECT_EQ(guest_.read(gva), guest_.reaches(to)) << std::hex << gva.raw;
    EXPECT_EQ(guest_.write(gva, gva.raw), guest_.reaches(to)) << std::hex << gva.raw;
    EXPECT_EQ(guest_.fetch(gva), guest_.reaches(to)) << std::hex << gva.raw;
  }
  // All of them still, without a fault.
  to = kPage;
  for (const Gva gva : addresses()) {
    if (paging()) to = to + kPageSize;
    if (!paging()) to = Gpa{gva.raw};
    const Outcome o = guest_.read(gva);
    EXPECT_EQ(o, guest_.reaches(to)) << std::hex << gva.raw;
    EXPECT_EQ(o.faults, 0u) << std::hex << gva.raw;
  }
}

TEST_P(PagingModes, WhatIsNotMappedFaults) {
  for (const Gva gva : addresses()) {
    if (!paging()) continue;
    EXPECT_EQ(guest_.read(gva), page_fault(0)) << std::hex << gva.raw;
    guest_.map(gva, kPage);
    EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage)) << std::hex << gva.raw;
  }
}

TEST_P(PagingModes, RightsOfTheLeafAndAboveIt) {
  if (!paging()) return;
  const Gva gva{0xc040'1000}, supervisor{0xc040'2000}, below{0x1000};
  guest_.map(gva, kPage, pte::kP | pte::kU | pte::kA | pte::kD);
  guest_.map(supervisor, kOther, pte::kP | pte::kW | pte::kA | pte::kD);
  guest_.map(below, kOther, kUsed, 1, pte::kP | pte::kU);  // read-only directory
  guest_.set_cpl(3);
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage));
  EXPECT_EQ(guest_.write(gva, 1), page_fault(pfec::kP | pfec::kW | pfec::kU));
  EXPECT_EQ(guest_.read(supervisor), page_fault(pfec::kP | pfec::kU));
  EXPECT_EQ(guest_.write(below, 1), page_fault(pfec::kP | pfec::kW | pfec::kU));
  EXPECT_EQ(guest_.read(below), guest_.reaches(kOther));
  guest_.set_cpl(0);
  EXPECT_EQ(guest_.write(supervisor, 1), guest_.reaches(kOther));
  EXPECT_EQ(guest_.write(below, 1), page_fault(pfec::kP | pfec::kW));
}

TEST_P(PagingModes, UserMayDoAllWithoutPaging) {
  if (paging()) return;
  guest_.set_cpl(3);
  ASSERT_TRUE(guest_.cpu().set_cr4(cr4::kSmep | cr4::kSmap));
  EXPECT_EQ(guest_.write(Gva{kPage.raw}, 1), guest_.reaches(kPage));
  EXPECT_EQ(guest_.fetch(Gva{kPage.raw}), guest_.reaches(kPage));
  guest_.set_cpl(0);
  EXPECT_EQ(guest_.fetch(Gva{kPage.raw}), guest_.reaches(kPage)) << "SMEP needs paging";
  EXPECT_EQ(guest_.read(Gva{kPage.raw}), guest_.reaches(kPage)) << "SMAP needs paging";
}

TEST_P(PagingModes, AddressesOutsideIa32eModeHave32Bits) {
  if (!mode().legacy()) return;
  const Gva gva{kPage.raw}, far{u64{0xdead} << 32 | kPage.raw};
  if (paging()) guest_.map(gva, kPage);
  EXPECT_EQ(guest_.read(far), guest_.reaches(kPage));
  EXPECT_EQ(guest_.read(gva).faults, 0u);
}

TEST_P(PagingModes, AccessedAndDirtyGoIntoTheGuestsEntries) {
  if (!paging()) return;
  const Gva gva{0x8040'1000};
  guest_.map(gva, kPage, kRights);
  const Gpa neighbour = guest_.entry(gva, 1) + entry_bytes();
  guest_.read(gva);
  EXPECT_EQ(guest_.load_entry(guest_.entry(gva, 1)), kPage.raw | kRights | pte::kA);
  guest_.write(gva, 1);
  EXPECT_EQ(guest_.load_entry(guest_.entry(gva, 1)), kPage.raw | kRights | pte::kA | pte::kD);
  EXPECT_EQ(guest_.load_entry(neighbour), 0u);
  EXPECT_TRUE(guest_.load_entry(guest_.entry(gva, 2)) & pte::kA);
  if (mode().kind == Paging::kPae) {
    EXPECT_EQ(guest_.load_entry(guest_.entry(gva, 3)) & ~pte::kAddress, pte::kP)
        << "PDPTEs have no A";
  }
}

// Emulated stores of whole entries, in all the sizes that a mode has.
TEST_P(PagingModes, EmulatedStoresToEachLevelShow) {
  if (!paging()) return;
  const Gva gva{0xc040'1000};
  guest_.map(gva, kPage);
  const Gva elsewhere{0x1000};
  guest_.map(elsewhere, kOther);
  const unsigned top = mode().kind == Paging::kPae ? 2 : mode().levels;
  for (unsigned level = 1; level <= top; ++level) {
    EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage)) << "level " << level;
    const Gpa at = guest_.entry(gva, level);
    const u64 was = guest_.load_entry(at);
    guest_.write_physical(at, 0, mode().entry_bytes);
    guest_.cpu().invlpg(gva);
    EXPECT_EQ(guest_.read(gva), page_fault(0)) << "level " << level;
    guest_.write_physical(at, was, mode().entry_bytes);
    EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage)) << "level " << level;
  }
}

TEST_P(PagingModes, StoresOfTheGuestToItsTablesShowAfterInvlpg) {
  if (!paging()) return;
  const Gva gva{0x8040'1000}, window{0x1000};
  guest_.map(gva, kPage);
  guest_.map(window, guest_.table_of(gva));
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage));
  const Gva at{window.raw | (guest_.entry(gva, 1).raw & (kPageSize - 1))};
  const auto edit = [&](u64 value) {
    return guest_.access(at, Access::kWrite, value, 0, mode().entry_bytes);
  };
  EXPECT_FALSE(edit(kOther.raw | kUsed).emulated) << "level-1 tables go unsync";
  guest_.cpu().invlpg(gva);
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kOther));
  EXPECT_EQ(guest_.events(Event::kUnsync), 1u);
  edit(kPage.raw | kUsed);
  EXPECT_TRUE(guest_.cpu().set_cr3(guest_.cpu().cr3()));
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage));
}

TEST_P(PagingModes, LargePages) {
  if (!paging()) return;
  for (const u8 host_level : {u8{1}, u8{2}}) {
    Guest g(mode(), config(host_levels()));
    if (host_level == 2) {
      g.platform.back_large(kMemory + 0x40'0000, Pfn{0x20'0000}, 2);
      g.platform.back_large(kMemory + 0x60'0000, Pfn{0x20'0200}, 2);
    }
    const Gva gva{0xc080'0000};
    g.map(gva, kPage, kUsed, 2);  // 2M, or 4M with 4-byte entries
    const u64 size = mode().entry_bytes == 4 ? 0x40'0000 : 0x20'0000;
    for (u64 offset = 0; offset < size; offset += 0x10'1000) g.load(kPage + offset);  // backs it
    for (u64 offset = 0; offset < size; offset += 0x10'1000)
      EXPECT_EQ(g.read(gva + offset), g.reaches(kPage + offset)) << std::hex << offset;
    EXPECT_EQ(g.translation(gva).level, host_level);
    EXPECT_EQ(g.read(gva + size), page_fault(0));
    g.write_physical(g.entry(gva, 2), kPage.raw | pte::kP | pte::kA | pte::kPs, mode().entry_bytes);
    g.cpu().invlpg(gva);
    for (u64 offset = 0; offset < size; offset += 0x10'1000)
      EXPECT_EQ(g.write(gva + offset, 1), page_fault(pfec::kP | pfec::kW)) << std::hex << offset;
  }
}

TEST_P(PagingModes, Devices) {
  const Gva gva{kOutside.raw + 0x123 * 8};
  if (paging()) guest_.map(Gva{kOutside.raw}, kOutside);
  for (unsigned i = 0; i < 2; ++i) EXPECT_EQ(guest_.read(gva), mmio(Gpa{gva.raw})) << "time " << i;
  guest_.add_slot(1, Gfn::of(kOutside), 1, kMemory + (u64{1} << 32));
  const Outcome o = guest_.read(gva);
  EXPECT_EQ(o.kind, Outcome::Kind::kOk) << o;
}

TEST_P(PagingModes, ACr3OutsideMemoryIsADummyRoot) {
  if (!paging() || mode().kind == Paging::kPae) return;
  const Gva gva{0xc000'0000};
  guest_.map(gva, kPage);
  ASSERT_TRUE(guest_.cpu().set_cr3(kOutside.raw));
  const EntryState state = guest_.cpu().enter();
  EXPECT_TRUE(state.ok);
  EXPECT_TRUE(state.levels > 3 || state.root.raw < u64{1} << 32);
  EXPECT_EQ(guest_.read(gva), page_fault(0));
  EXPECT_EQ(guest_.read(Gva{0}), page_fault(0));
  // Memory appears there, with a copy of the root table.
  guest_.add_slot(1, Gfn::of(kOutside), 1, kMemory + (u64{1} << 32));
  const Gpa at{guest_.entry(gva, mode().levels)};
  const u64 offset = at.raw % kPageSize & ~u64{7};
  guest_.platform.store(kMemory + (u64{1} << 32) + offset, guest_.load(guest_.root() + offset));
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage));
}

TEST_P(PagingModes, FrameMovesAndZapAll) {
  const Gva gva{kPage.raw};
  if (paging()) guest_.map(gva, kPage);
  guest_.write(gva, 0x77);
  guest_.migrate(kMemory + kPage.raw);
  EXPECT_EQ(guest_.read(gva).value, 0x77u);
  guest_.vm().zap_all();
  guest_.audit();
  EXPECT_EQ(guest_.read(gva).value, 0x77u);
  guest_.vm().reclaim(100);
  guest_.audit();
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kPage));
}

TEST_P(PagingModes, StoresToATableAreEmulatedWithoutPaging) {
  if (!mode().legacy() || paging()) return;
  // Another mode shadows the table first; its pages stay when the mode is left.
  guest_.enter_mode(k32Bit);
  const Gva gva{0xc040'1000};
  guest_.map(gva, kPage);
  guest_.read(gva);
  const Gpa directory = guest_.entry(gva, 2), table = guest_.entry(gva, 1);
  ASSERT_TRUE(guest_.cpu().set_cr0(cr0::kPe));
  EXPECT_TRUE(
      guest_
          .access(Gva{directory.raw}, Access::kWrite, guest_.load_entry(directory) | pte::kA, 0, 4)
          .emulated);
  EXPECT_FALSE(guest_.access(Gva{table.raw}, Access::kWrite, kOther.raw | kUsed, 0, 4).emulated);
  ASSERT_TRUE(guest_.cpu().set_cr0(cr0::kPe | cr0::kPg | cr0::kWp));
  EXPECT_EQ(guest_.read(gva), guest_.reaches(kOther));
}

}  // namespace
}  // namespace mmu
