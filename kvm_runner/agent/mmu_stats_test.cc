#include "kvm_runner/agent/mmu_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "kvm_runner/testing/subject_probe.h"

namespace twinwalk::agent {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::IsEmpty;
using testing::Not;

void put(std::vector<std::uint8_t>& out, std::uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

constexpr std::uint32_t kNameSize = 16, kIdBytes = 8;

void put_descriptor(std::vector<std::uint8_t>& out, std::uint32_t flags, std::uint16_t values,
                    std::uint32_t offset, std::string_view name) {
  put(out, flags, 4);
  put(out, 0, 2);  // exponent
  put(out, values, 2);
  put(out, offset, 4);
  put(out, 0, 4);  // size of a bucket
  std::string padded(name);
  padded.resize(kNameSize);
  out.insert(out.end(), padded.begin(), padded.end());
}

std::vector<std::uint8_t> small_head() {
  std::vector<std::uint8_t> out;
  for (const std::uint32_t word : {0u, kNameSize, 4u, 24u, 24u + kIdBytes, 1000u})
    put(out, word, 4);
  put(out, 0x6d76, kIdBytes);
  put_descriptor(out, 0x000, 1, 0, "mmu_unsync");
  put_descriptor(out, 0x001, 1, 8, "pages_4k");
  put_descriptor(out, 0x002, 1, 16, "max_mmu_rmap_si");
  put_descriptor(out, 0x004, 32, 24, "mmu_histogram");
  return out;
}

TEST(MmuStatsTest, HeadSaysWhatIsWhere) {
  std::vector<Stat> stats;
  ASSERT_TRUE(parse_stats_head(small_head(), stats));
  EXPECT_THAT(stats, ElementsAre(Field(&Stat::name, "mmu_unsync"), Field(&Stat::name, "pages_4k"),
                                 Field(&Stat::name, "max_mmu_rmap_si"),
                                 Field(&Stat::name, "mmu_histogram")));
  EXPECT_THAT(stats, ElementsAre(Field(&Stat::offset, 1000u), Field(&Stat::offset, 1008u),
                                 Field(&Stat::offset, 1016u), Field(&Stat::offset, 1024u)));
  EXPECT_THAT(
      stats,
      ElementsAre(Field(&Stat::kind, Stat::Kind::kSum), Field(&Stat::kind, Stat::Kind::kNow),
                  Field(&Stat::kind, Stat::Kind::kPeak), Field(&Stat::kind, Stat::Kind::kOther)));
}

TEST(MmuStatsTest, WhatIsCutOffIsRefused) {
  const std::vector<std::uint8_t> head = small_head();
  std::vector<Stat> stats;
  for (std::size_t bytes = 0; bytes < head.size(); ++bytes)
    EXPECT_FALSE(parse_stats_head(std::span(head).first(bytes), stats)) << bytes;
}

TEST(MmuStatsTest, WhatIsTooLargeIsRefused) {
  std::vector<std::uint8_t> head = small_head();
  for (const std::size_t at : {4, 8, 16}) {
    std::vector<std::uint8_t> wrong = head;
    wrong[at + 3] = 0xff;
    EXPECT_EQ(bytes_of_stats_head(wrong), 0u) << at;
  }
}

TEST(MmuStatsTest, OnlyTheMmusCount) {
  EXPECT_TRUE(is_of_mmu({"pf_taken", Stat::Kind::kSum, 0}));
  EXPECT_TRUE(is_of_mmu({"tlb_flush", Stat::Kind::kSum, 0}));
  EXPECT_FALSE(is_of_mmu({"halt_exits", Stat::Kind::kSum, 0}));
  EXPECT_FALSE(is_of_mmu({"mmu_histogram", Stat::Kind::kOther, 0}));
}

// The same program does the same to KVM's MMU, and one that maps more does more.
TEST(MmuStatsTest, TellsProgramsApartOnARealKvm) {
  std::string why;
  const auto subject = make_kvm_subject(why);
  if (!subject) GTEST_SKIP() << why;
  remote::SeenMap map;
  MmuStats stats(map);
  subject->set_watcher(&stats);
  constexpr std::string_view kOnePage =
      "map gva=0x400000 gpa=0x5000\naccess read gva=0x400000 cpl=3\n";
  std::string many;
  for (unsigned i = 0; i < 40; ++i) {
    const std::string gva = std::to_string(0x40000000ull + i * 0x200000ull);
    many += "map gva=" + gva + " gpa=0x5000\naccess write gva=" + gva + " cpl=3\n";
  }
  kvm::run_text(*subject, kOnePage);
  const std::string first = map.take_news();
  if (first.empty()) GTEST_SKIP() << "this KVM counts nothing of its MMU";
  kvm::run_text(*subject, kOnePage);
  EXPECT_THAT(map.take_news(), IsEmpty());
  kvm::run_text(*subject, many);
  EXPECT_THAT(map.take_news(), Not(IsEmpty()));
}

}  // namespace
}  // namespace twinwalk::agent
