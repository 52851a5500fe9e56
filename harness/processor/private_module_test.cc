#include "harness/processor/private_module.h"

#include <tuple>

#include "harness/processor/two_dimensions_bed.h"

namespace twinwalk::processor {
namespace {

constexpr std::uint64_t kGfn = 0x4'0203, kFrame = 0x300, kLinks = ~std::uint64_t{4095};

// Levels, accessed and dirty flags, execution by mode.
class ModuleTest : public TwoDimensionsTest,
                   public testing::WithParamInterface<std::tuple<int, bool, bool>> {
 protected:
  ModuleTest() : module(memory) {
    const auto [levels, flags, by_mode] = GetParam();
    Machine m;
    m.core = Dimension::kEpt;
    m.maxphyaddr = m.host_maxphyaddr = 48;
    m.host_levels = static_cast<std::uint8_t>(levels);
    m.tdp |= tdp::kPrivate | tdp::kExternal;
    if (!flags) m.tdp &= ~tdp::kAd;
    if (by_mode) m.tdp |= tdp::kMbec;
    start(m);
    module.reset(m, kModuleRoot);
  }
  // The tables on the way to kGfn, each hung in its place.
  void link_path() {
    for (unsigned level = levels() - 1; level >= 1; --level) link(level);
  }
  void link(unsigned level) { module.link(first(level), level, table(level)); }
  void free_table(unsigned level) { module.free_table(first(level), level, table(level)); }
  unsigned levels() const { return machine.host_levels; }
  static std::uint64_t first(unsigned level) {
    return kGfn & ~((std::uint64_t{1} << 9 * level) - 1);
  }
  static std::uint64_t table(unsigned level) { return kModuleRoot + level * 4096; }
  std::uint64_t& entry(unsigned level) {
    const std::uint64_t in = level == levels() ? kModuleRoot : table(level);
    return memory.word(in + (kGfn >> 9 * (level - 1) & 511) * 8);
  }
  // As the processor finds the page.
  bool reaches(std::uint64_t gfn, std::uint64_t& hpa) {
    CombinedCache cache;
    SecondDimension second(memory, cache);
    second.reset(machine);
    NestedControls nested;
    nested.kind = NestedFormat::Kind::kEpt;
    nested.pointer = module.pointer();
    GpaAccess access;
    access.read = access.write = access.fetch = true;
    HostPage page;
    NestedExit exit;
    const bool there = second.translate(nested, 0, gfn << 12, access, page, exit);
    hpa = page.hpa;
    return there;
  }
  void refused() { EXPECT_NE(module.take_complaint(), nullptr); }
  void fine() { EXPECT_EQ(module.take_complaint(), nullptr); }

  static constexpr std::uint64_t kModuleRoot = 0xa0'0000;
  PrivateModule module;
};
INSTANTIATE_TEST_SUITE_P(, ModuleTest,
                         testing::Combine(testing::Values(4, 5), testing::Bool(), testing::Bool()));

TEST_P(ModuleTest, ProcessorReachesWhatItMaps) {
  link_path();
  std::uint64_t hpa = 0;
  EXPECT_FALSE(reaches(kGfn, hpa));
  module.set_leaf(kGfn, kFrame);
  EXPECT_TRUE(reaches(kGfn, hpa)) << "with every right";
  EXPECT_EQ(hpa, kFrame << 12);
  EXPECT_FALSE(reaches(kGfn + 1, hpa));
  EXPECT_EQ(module.held(), levels());
  module.remove_leaf(kGfn, kFrame);
  EXPECT_FALSE(reaches(kGfn, hpa));
  for (unsigned level = 1; level < levels(); ++level) free_table(level);
  fine();
  EXPECT_EQ(entry(levels()), 0u);
  EXPECT_EQ(module.held(), 0u);
}

TEST_P(ModuleTest, NothingIsLogged) {
  link_path();
  module.set_leaf(kGfn, kFrame);
  const std::uint64_t leaf = entry(1);
  std::uint64_t hpa = 0;
  EXPECT_TRUE(reaches(kGfn, hpa));
  EXPECT_EQ(entry(1), leaf) << "D is there already";
}

TEST_P(ModuleTest, WhatHangsBelowNothingIsRefused) {
  module.set_leaf(kGfn, kFrame);
  refused();
  link(levels() - 2);
  refused();
  module.remove_leaf(kGfn, kFrame);
  refused();
  free_table(1);
  refused();
  EXPECT_EQ(entry(levels()), 0u);
}

TEST_P(ModuleTest, NothingGoesOverAnother) {
  link_path();
  link(1);
  refused();
  module.set_leaf(kGfn, kFrame);
  fine();
  module.set_leaf(kGfn, kFrame + 1);
  refused();
  EXPECT_EQ(entry(1) & kLinks & ~bit(63), kFrame << 12);
}

TEST_P(ModuleTest, TableTranslatesWhatBeginsWithIt) {
  module.link(first(levels() - 1) + 1, levels() - 1, table(levels() - 1));
  refused();
  EXPECT_EQ(entry(levels()), 0u);
}

TEST_P(ModuleTest, OnlyWhatIsThereGoes) {
  link_path();
  module.remove_leaf(kGfn, kFrame);
  refused();
  module.set_leaf(kGfn, kFrame);
  module.remove_leaf(kGfn, kFrame + 1);
  refused();
  free_table(1);
  refused();
  module.remove_leaf(kGfn, kFrame);
  fine();
  module.free_table(first(1), 1, table(2));
  refused();
  free_table(2);
  refused();
  free_table(1);
  fine();
}

TEST_P(ModuleTest, TheFirstComplaintStands) {
  link_path();
  module.set_leaf(kGfn, kFrame);
  module.remove_leaf(kGfn, kFrame + 1);
  free_table(1);
  EXPECT_STREQ(module.take_complaint(),
               "the module is to remove a page that it does not map there");
  fine();
}

TEST_P(ModuleTest, WithoutOneThereIsNoPointer) {
  EXPECT_NE(module.pointer(), 0u);
  module.remove();
  EXPECT_EQ(module.pointer(), 0u);
}

}  // namespace
}  // namespace twinwalk::processor
