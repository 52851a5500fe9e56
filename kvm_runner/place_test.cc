#include "kvm_runner/place.h"

#include <gtest/gtest.h>

#include "harness/trace/parse.h"

namespace twinwalk::kvm {
namespace {

Layout place(std::string_view text) {
  const ParseResult parsed = parse("walk 1\n" + std::string(text), "test");
  EXPECT_TRUE(parsed);
  Program program;
  Lowering lowering;
  lowering.lower(parsed.trace, program);
  return place_for(program);
}

TEST(Place, ProgramInIa32eModeLeavesTheLowAddressesAlone) {
  EXPECT_EQ(place("map gva=0x400000 gpa=0x5000\naccess read gva=0x400000\n").base, kHighBase);
}

TEST(Place, LegacyProgramHasTheRunnerBelow4GiB) {
  EXPECT_TRUE(place("machine mode=none\naccess read gva=0x5000\n").serves_legacy());
  EXPECT_TRUE(place("mov cr0=pe|et|ne\n").serves_legacy());
  EXPECT_EQ(place("machine mode=pae\naccess read gva=0x5000\n").base >> 30, 3u);
}

TEST(Place, GigabytesOfAccessesAndMapsAreAvoided) {
  EXPECT_EQ(place("machine mode=pae\naccess read gva=0xc0000000\n").base >> 30, 2u);
  EXPECT_EQ(
      place("machine mode=pae\nmap gva=0xd0000000 gpa=0x5000\nmap gva=0x80000000 gpa=0x5000\n")
              .base >>
          30,
      1u);
}

TEST(Place, MemslotsAreNeverOverlapped) {
  const Layout layout =
      place("machine mode=none\nslot-add slot=1 gpa=0xc0000000 pages=0x40000 hva=0x7f0000000000\n");
  EXPECT_FALSE(layout.overlaps(0xc000'0000, std::uint64_t{1} << 30));
}

TEST(Place, AMemslotOfLaterGivesWay) {
  const Layout layout =
      place("init\nslot-add slot=1 gpa=0x4000000 pages=0xfc000 hva=0x7f0000000000\n");
  EXPECT_TRUE(layout.serves_legacy());
}

TEST(Place, EntriesOfARootNameTheBase) {
  const Layout layout{0xd500'0000};
  EXPECT_EQ(layout.entry_of(Mode::kPae).offset, 3u * 8);
  EXPECT_EQ(layout.entry_of(Mode::k32Bit).offset, 0x354u * 4);
  EXPECT_EQ(layout.entry_of(Mode::kNone).bytes, 0u);
  EXPECT_TRUE(layout.reserves(Mode::k32Bit, 0xd53f'ffff));
  EXPECT_FALSE(layout.reserves(Mode::k32Bit, 0xd540'0000));
}

}  // namespace
}  // namespace twinwalk::kvm
