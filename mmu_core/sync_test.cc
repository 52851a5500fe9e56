// What a sync does with pages and entries that it cannot judge.

#include "mmu_core/sync.h"

#include "mmu_core/page_cache.h"
#include "mmu_core/testing/audit_scene.h"
#include "mmu_core/zap.h"

namespace mmu {
namespace {

using testing::AuditScene;

class Sync : public ::testing::Test, protected AuditScene {
 protected:
  Sync() : AuditScene({"Levels4", &k4Level, 4}) { make_unsync(); }
  // The vCPU's rules are not those of its pages: no correct core comes here.
  void estrange() {
    PageRole role = vcpu().role;
    role.set<PageRole::Wp>(!role.get<PageRole::Wp>());
    falsify(vcpu().role, role);
  }
  ShadowPage& table_ = page(kVa);
};

TEST_F(Sync, PageOfOtherRulesIsNotJudged) {
  estrange();
  EXPECT_FALSE(sync::page(vcpu(), table_));
}

TEST_F(Sync, DirectPageIsNotJudged) { EXPECT_FALSE(sync::page(vcpu(), page(kSplit))); }

TEST_F(Sync, ChildOfOtherRulesIsZapped) {
  estrange();
  sync::children(vcpu(), page(kVa, 2));
  zap::commit(vm());
  EXPECT_EQ(testing::spte_of(at(kVa, 2)), 0u);
}

TEST_F(Sync, PageOfOtherRulesIsNotFound) {
  estrange();
  ASSERT_TRUE(vcpu().caches.top_up());
  const u64 zaps = guest.stats().zaps;
  const ShadowPage* const fresh = pages::get(vcpu(), table_.gfn, table_.role);
  EXPECT_EQ(fresh->used, 0u);
  EXPECT_EQ(guest.stats().zaps, zaps + 1);
  zap::commit(vm());
}

TEST_F(Sync, EntryOfATableWithoutAFrameGoes) {
  const SpteRef leaf = at(kVa);
  falsify(host(table_.gfn.base()).kind, FrameLookup::Kind::kNoFrame);
  sync::entry(vcpu(), table_, leaf.index);
  EXPECT_EQ(testing::spte_of(leaf), 0u);
  zap::commit(vm());
}

}  // namespace
}  // namespace mmu
