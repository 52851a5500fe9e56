#include "harness/host_memory.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <unordered_map>

#include "harness/poison.h"

namespace twinwalk {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t hva(std::uint64_t offset) { return kHvaBase + offset; }

std::uint64_t hpa_of(HostMemory& memory, std::uint64_t at) {
  return memory.lookup(at & ~(kPage - 1)).pfn * kPage + at % kPage;
}

TEST(HostMemory, FirstTouchFindsTheSeed) {
  HostMemory memory;
  EXPECT_EQ(memory.load(hpa_of(memory, hva(0x5000)), 8), seed_word(0x5000));
  EXPECT_EQ(memory.load(hpa_of(memory, hva(0x5ffc)), 4), seed_word(0x5ff8) >> 32);
  EXPECT_EQ(memory.peek(hva(0x123450), 8), seed_word(0x123450));
}

TEST(HostMemory, FramesAreApartFromGuestAddressesAndFromEachOther) {
  HostMemory memory;
  std::set<std::uint64_t> seen;
  std::uint64_t previous = 0;
  for (std::uint64_t page = 0; page < 300; ++page) {
    const std::uint64_t pfn = memory.lookup(hva(page * kPage)).pfn;
    EXPECT_TRUE(seen.insert(pfn).second);
    EXPECT_GE(pfn * kPage, HostMemory::kHvaBytes);
    EXPECT_NE(pfn, previous + 1);
    EXPECT_EQ(memory.hva_of(pfn * kPage + 8), hva(page * kPage + 8));
    previous = pfn;
  }
}

TEST(HostMemory, SameFramesAfterReset) {
  HostMemory memory;
  const std::uint64_t first = memory.lookup(hva(0x7000)).pfn;
  memory.store(first * kPage, 8, 42);
  memory.reset(1);
  EXPECT_EQ(memory.state(first), FrameState::kFree);
  EXPECT_EQ(memory.lookup(hva(0x9000)).pfn, first);
  EXPECT_EQ(memory.load(first * kPage, 8), seed_word(0x9000));
}

TEST(HostMemory, StrangeFramesEscape) {
  HostMemory memory;
  const std::uint64_t guest = hpa_of(memory, hva(0x5000));
  std::uint64_t table = 0;
  ASSERT_NE(memory.alloc_table(table), nullptr);
  unsigned secrets = 0;
  for (std::uint64_t pfn = (guest >> 12) & ~std::uint64_t{63}, end = pfn + 64; pfn < end; ++pfn) {
    if (memory.state(pfn) != FrameState::kSecret) continue;
    ++secrets;
    EXPECT_EQ(memory.load(pfn * kPage + 16, 8), HostMemory::secret_word(pfn * kPage + 16));
    EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  }
  EXPECT_EQ(secrets, 8u);
  memory.load(table, 8);
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  memory.store(0x5000, 8, 1);  // a gpa taken for an hpa
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  EXPECT_EQ(memory.table_entry(guest), nullptr);
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  memory.load(std::uint64_t{1} << 51, 8);
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  EXPECT_EQ(memory.load(guest, 8), seed_word(0x5000));
  EXPECT_EQ(memory.take_complaint(), Complaint::kNone);
}

TEST(HostMemory, InvalidateGivesZeroedOtherFrames) {
  HostMemory memory;
  const std::uint64_t old = hpa_of(memory, hva(0x5000));
  memory.store(old, 8, 42);
  memory.invalidate(hva(0x4000), 3);
  EXPECT_EQ(memory.state(old / kPage), FrameState::kPoisoned);
  memory.load(old, 8);
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  EXPECT_EQ(memory.peek(hva(0x4008), 8), 0u);
  EXPECT_NE(hpa_of(memory, hva(0x5000)), old);
  EXPECT_EQ(memory.load(hpa_of(memory, hva(0x5000)), 8), 0u);
  EXPECT_EQ(memory.peek(hva(0x7000), 8), seed_word(0x7000));
}

TEST(HostMemory, RemapKeepsContent) {
  HostMemory memory;
  const std::uint64_t old = hpa_of(memory, hva(0x5000));
  memory.store(old + 8, 8, 42);
  memory.remap(hva(0), 64);
  const std::uint64_t now = hpa_of(memory, hva(0x5000));
  EXPECT_NE(now, old);
  EXPECT_EQ(memory.load(now + 8, 8), 42u);
  EXPECT_EQ(memory.load(now + 128, 8), seed_word(0x5080));
  EXPECT_EQ(memory.state(old / kPage), FrameState::kPoisoned);
}

TEST(HostMemory, ProtectedPagesNeedCopyOnWrite) {
  HostMemory memory;
  const std::uint64_t old = hpa_of(memory, hva(0x5000));
  memory.protect(hva(0x5000), 1, false);
  EXPECT_FALSE(memory.lookup(hva(0x5000)).writable);
  EXPECT_TRUE(memory.lookup(hva(0x6000)).writable);
  memory.store(old, 8, 42);
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  memory.break_cow(hva(0x5000));
  EXPECT_TRUE(memory.lookup(hva(0x5000)).writable);
  const std::uint64_t now = hpa_of(memory, hva(0x5000));
  EXPECT_NE(now, old);
  EXPECT_EQ(memory.load(now, 8), seed_word(0x5000));
  memory.store(now, 8, 42);
  EXPECT_EQ(memory.take_complaint(), Complaint::kNone);
  EXPECT_EQ(memory.load(now, 8), 42u);
}

class HugePages : public testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(Levels, HugePages, testing::Values(2u, 3u));

TEST_P(HugePages, AreNaturallyAlignedRuns) {
  HostMemory memory;
  memory.reset(GetParam());
  const std::uint64_t size = std::uint64_t{1} << (12 + 9 * (GetParam() - 1));
  const std::uint64_t first = hpa_of(memory, hva(0)), other = hpa_of(memory, hva(0x1ff123));
  EXPECT_EQ(first % size, 0u);
  EXPECT_EQ(other, first + 0x1ff123);
  EXPECT_EQ(memory.lookup(hva(0x3000)).level, GetParam());
  // A page that nobody looked up is the guest's too: a large translation reaches it.
  EXPECT_EQ(memory.state((first + 0x7000) / kPage), FrameState::kGuest);
  EXPECT_EQ(memory.load(first + 0x7010, 8), seed_word(0x7010));
  EXPECT_EQ(memory.state((first + size) / kPage), FrameState::kFree);
}

TEST_P(HugePages, PartialRemapSplits) {
  HostMemory memory;
  memory.reset(GetParam());
  const std::uint64_t first = hpa_of(memory, hva(0));
  memory.remap(hva(0x3000), 1);
  EXPECT_EQ(memory.lookup(hva(0x4000)).level, 1);
  EXPECT_EQ(hpa_of(memory, hva(0x4000)), first + 0x4000);
  EXPECT_EQ(memory.state((first + 0x3000) / kPage), FrameState::kPoisoned);
  EXPECT_NE(hpa_of(memory, hva(0x3000)), first + 0x3000);
  if (GetParam() == 3) {
    EXPECT_EQ(memory.lookup(hva(0x200000)).level, 2);
    EXPECT_EQ(hpa_of(memory, hva(0x200000)), first + 0x200000);
  }
}

TEST_P(HugePages, CollapseMovesContentIntoOneRun) {
  HostMemory memory;
  memory.reset(GetParam());
  memory.store(hpa_of(memory, hva(0x5000)), 8, 42);
  memory.huge_split(hva(0x5000));
  EXPECT_FALSE(memory.is_huge(hva(0x5000)));
  memory.invalidate(hva(0x6000), 1);
  memory.huge_collapse(hva(0x1000));
  EXPECT_EQ(memory.lookup(hva(0)).level, 2);
  const std::uint64_t first = hpa_of(memory, hva(0));
  EXPECT_EQ(first % 0x200000, 0u);
  EXPECT_EQ(memory.load(first + 0x5000, 8), 42u);
  EXPECT_EQ(memory.load(first + 0x6000, 8), 0u);
  EXPECT_EQ(memory.load(first + 0x8000, 8), seed_word(0x8000));
  EXPECT_EQ(memory.take_complaint(), Complaint::kNone);
}

TEST(HostMemory, FreedTablesAreQuarantined) {
  HostMemory memory;
  std::uint64_t hpa = 0;
  std::uint64_t* table = memory.alloc_table(hpa);
  ASSERT_NE(table, nullptr);
  for (unsigned i = 0; i < 512; ++i) EXPECT_EQ(table[i], 0u);
  table[3] = 77;
  EXPECT_EQ(memory.table_entry(hpa + 24), table + 3);
  EXPECT_EQ(memory.live_tables(), 1u);
  memory.free_table(hpa);
  EXPECT_EQ(memory.live_tables(), 0u);
#ifdef TWINWALK_ASAN
  EXPECT_TRUE(__asan_address_is_poisoned(table));
#endif
  for (unsigned i = 0; i < 1000; ++i) {
    std::uint64_t other = 0;
    ASSERT_NE(memory.alloc_table(other), nullptr);
    EXPECT_NE(other, hpa);
    memory.free_table(other);
  }
  EXPECT_EQ(memory.take_complaint(), Complaint::kNone);
  memory.free_table(hpa);
  EXPECT_EQ(memory.take_complaint(), Complaint::kTrap);
}

TEST(HostMemory, LowTablesLieBelow4GAndAreNotHandedOutTwice) {
  HostMemory memory;
  std::uint64_t first = 0, second = 0, high = 0;
  std::uint64_t* const table = memory.alloc_table(first, true);
  ASSERT_NE(table, nullptr);
  EXPECT_LT(first, std::uint64_t{1} << 32);
  EXPECT_EQ(memory.table_entry(first + 8), table + 1);
  table[1] = 77;
  memory.free_table(first);
#ifdef TWINWALK_ASAN
  EXPECT_TRUE(__asan_address_is_poisoned(table));
#endif
  ASSERT_NE(memory.alloc_table(second, true), nullptr);
  EXPECT_NE(second, first);
  ASSERT_NE(memory.alloc_table(high), nullptr);
  EXPECT_GE(high, std::uint64_t{1} << 32);
  EXPECT_EQ(memory.table_entry(first), nullptr) << "it was given back";
  EXPECT_EQ(memory.take_complaint(), Complaint::kEscape);
  // The next trace has it anew, and zeroed.
  memory.reset(1);
  ASSERT_EQ(memory.alloc_table(second, true), table);
  EXPECT_EQ(second, first);
  EXPECT_EQ(table[1], 0u);
}

TEST(HostMemory, AFrameThatIsStillReachedMayNotBeGivenBack) {
  struct All final : FrameReaders {
    bool reaches(std::uint64_t pfn, std::uint64_t count) const override {
      return at >= pfn && at < pfn + count;
    }
    std::uint64_t at = 0;
  } readers;
  HostMemory memory;
  memory.set_readers(&readers);
  readers.at = memory.lookup(hva(0x5000)).pfn;
  memory.note_reached(readers.at);
  memory.invalidate(hva(0x4000), 1);
  EXPECT_EQ(memory.take_complaint(), Complaint::kNone);
  memory.remap(hva(0x5000), 1);
  EXPECT_EQ(memory.take_complaint(), Complaint::kTableFreedInUse);
  memory.reset(2);
  readers.at = memory.lookup(hva(0)).pfn + 5;  // inside a huge page, never looked up
  memory.invalidate(hva(0), 512);
  EXPECT_EQ(memory.take_complaint(), Complaint::kTableFreedInUse);
}

// Host operations in any order against a model that knows contents only.
TEST(HostMemory, ContentSurvivesAnyHostOperations) {
  constexpr std::uint64_t kPages = 2048;
  std::mt19937_64 random(3);
  HostMemory memory;
  for (unsigned round = 0; round < 60; ++round) {
    memory.reset(1 + round % 3);
    std::unordered_map<std::uint64_t, std::uint64_t> words;
    std::set<std::uint64_t> zeroed;
    const auto expected = [&](std::uint64_t at) {
      if (const auto it = words.find(at); it != words.end()) return it->second;
      return zeroed.count(at / kPage) ? 0 : seed_word(at);
    };
    for (unsigned n = 0; n < 300; ++n) {
      const std::uint64_t page = random() % kPages, at = page * kPage + random() % 4 * 64;
      const std::uint64_t pages = random() % 4 ? 1 + random() % 8 : 512 + random() % 600;
      const std::uint64_t count = std::min(pages, kPages - page);
      switch (random() % 12) {
        case 0:
          memory.invalidate(hva(page * kPage), count);
          for (std::uint64_t p = page; p < page + count; ++p) zeroed.insert(p);
          std::erase_if(words, [&](const auto& w) {
            return w.first / kPage >= page && w.first / kPage < page + count;
          });
          break;
        case 1:
          memory.remap(hva(page * kPage), count);
          break;
        case 2:
          memory.protect(hva(page * kPage), count, random() % 2);
          break;
        case 3:
          memory.huge_split(hva(page * kPage));
          break;
        case 4:
          memory.huge_collapse(hva(page * kPage));
          break;
        case 5:
        case 6:
        case 7: {
          if (!memory.lookup(hva(page * kPage)).writable) memory.break_cow(hva(page * kPage));
          ASSERT_FALSE(memory.is_protected(hva(at)));
          const std::uint64_t value = random();
          memory.store(hpa_of(memory, hva(at)), 8, value);
          words[at] = value;
          break;
        }
        default: {
          ASSERT_EQ(memory.peek(hva(at), 8), expected(at));
          const std::uint64_t hpa = hpa_of(memory, hva(at));
          ASSERT_EQ(memory.load(hpa, 8), expected(at));
          const HostMemory::Lookup found = memory.lookup(hva(page * kPage));
          if (found.level == 2) {  // any neighbour in the huge page, looked up or not
            const std::uint64_t other = (page & ~std::uint64_t{511}) + random() % 512;
            const std::uint64_t run = hpa & ~std::uint64_t{0x1fffff};
            ASSERT_EQ(memory.load(run + other % 512 * kPage, 8), expected(other * kPage));
          }
        }
      }
      ASSERT_EQ(memory.take_complaint(), Complaint::kNone) << memory.complaint_what();
    }
  }
}

TEST(HostMemory, StaysSmall) {
  HostMemory memory;
  std::mt19937_64 random(5);
  const auto resident = [] {
    std::FILE* f = std::fopen("/proc/self/statm", "r");
    unsigned long total = 0, pages = 0;
    if (!f || std::fscanf(f, "%lu %lu", &total, &pages) != 2) pages = 0;
    if (f) std::fclose(f);
    return pages * kPage;
  };
  const std::uint64_t before = resident();
  std::uint64_t most = 0;
  for (unsigned trace = 0; trace < 20'000; ++trace) {
    memory.reset(1 + trace % 3);
    for (unsigned n = 0; n < 20; ++n)
      memory.load(hpa_of(memory, hva(random() % HostMemory::kHvaBytes & ~7ull)), 8);
    if (trace % 500 == 0) most = std::max<std::uint64_t>(most, resident());
  }
  EXPECT_LT(most - before, 64u << 20);
}

}  // namespace
}  // namespace twinwalk
