#ifndef MMU_CORE_TESTING_EXTERNAL_MODULE_H_
#define MMU_CORE_TESTING_EXTERNAL_MODULE_H_

// A module that owns the tables of private memory, as VmConfig::external_private has it. It fails
// the test for what no module would accept, and can be busy.

#include <gtest/gtest.h>

#include <map>
#include <utility>

#include "mmu_core/types.h"

namespace mmu::testing {

class ExternalModule {
 public:
  ~ExternalModule() {
    EXPECT_TRUE(tables_.empty()) << "the module has tables left";
    EXPECT_TRUE(leaves_.empty()) << "the module has pages left";
  }

  u8 root_level = 4;
  unsigned busy = 0;  // so many of the next calls that fill are refused
  u64 refused = 0;

  bool link(Gfn gfn, u8 level, Hpa table) {
    if (is_busy()) return false;
    EXPECT_TRUE(has_parent(gfn, level)) << "a table below nothing";
    EXPECT_EQ(gfn.raw % pages_of_level(level + 1u), 0u);
    EXPECT_TRUE(tables_.try_emplace({level, gfn}, table).second) << "a table over another";
    return true;
  }
  bool set(Gfn gfn, Pfn pfn) {
    if (is_busy()) return false;
    EXPECT_TRUE(has_parent(gfn, 0)) << "a page below nothing";
    EXPECT_TRUE(leaves_.try_emplace(gfn, pfn).second) << "a page over another";
    return true;
  }
  void remove(Gfn gfn, Pfn pfn) {
    const auto it = leaves_.find(gfn);
    ASSERT_NE(it, leaves_.end()) << "removal of what is not there";
    EXPECT_EQ(it->second, pfn);
    leaves_.erase(it);
  }
  void free(Gfn gfn, u8 level, Hpa table) {
    const auto it = tables_.find({level, gfn});
    ASSERT_NE(it, tables_.end()) << "no such table";
    EXPECT_EQ(it->second, table);
    const Gfn end = gfn + pages_of_level(level + 1u);
    const auto page = leaves_.lower_bound(gfn);
    EXPECT_TRUE(page == leaves_.end() || page->first >= end) << "a table that maps pages is freed";
    for (u8 below = 1; below < level; ++below) {
      const auto child = tables_.lower_bound({below, gfn});
      EXPECT_TRUE(child == tables_.end() || child->first >= std::pair(below, end))
          << "a table that links others is freed";
    }
    tables_.erase(it);
  }

  // What the hardware finds; null: nothing.
  const Pfn* page(Gfn gfn) const {
    const auto it = leaves_.find(gfn);
    return it == leaves_.end() ? nullptr : &it->second;
  }
  std::size_t pages() const { return leaves_.size(); }
  std::size_t tables() const { return tables_.size(); }

 private:
  bool is_busy() {
    if (!busy) return false;
    --busy;
    ++refused;
    return true;
  }
  bool has_parent(Gfn gfn, unsigned level) const {
    const unsigned parent = level + 1;
    if (parent == root_level) return true;
    const Gfn base{gfn.raw & ~(pages_of_level(parent + 1) - 1)};
    return tables_.count({static_cast<u8>(parent), base}) != 0;
  }

  std::map<std::pair<u8, Gfn>, Hpa> tables_;  // by level and first gfn
  std::map<Gfn, Pfn> leaves_;
};

}  // namespace mmu::testing

#endif  // MMU_CORE_TESTING_EXTERNAL_MODULE_H_
