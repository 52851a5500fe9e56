// Broken invariants that the core itself stumbles over: it stops before it does harm.

#include "mmu_core/entries.h"
#include "mmu_core/memory_cache.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/testing/audit_scene.h"
#include "mmu_core/tracking.h"
#include "mmu_core/unsync.h"
#include "mmu_core/zap.h"

namespace mmu {
namespace {

using testing::AuditScene;
using testing::kMemory;
using testing::spte_of;

class PanicsDeathTest : public ::testing::Test, protected AuditScene {
 protected:
  PanicsDeathTest() : AuditScene({"Levels4", &k4Level, 4}) {}
  const SpteRef leaf_ = at(kVa);
  const SpteRef link_ = at(kVa, 2);
  ShadowPage& table_ = page(kVa);
  ShadowPage& directory_ = page(kVa, 2);
};

// ---- entries

TEST_F(PanicsDeathTest, EntryIsFilledTwice) {
  EXPECT_DEATH(entries::set_mmio(vm(), leaf_, spte_of(at(kDevice))), "shadow entry filled twice");
}

TEST_F(PanicsDeathTest, LeafOfNoMemslotIsDropped) {
  falsify(leaf_.page->info->word[leaf_.index], Gfn::of(kNoMemory).raw << 3);
  EXPECT_DEATH(entries::drop(vm(), leaf_), "mapped gfn without a memslot");
}

TEST_F(PanicsDeathTest, LeafOutsideTheReverseMapIsDropped) {
  falsify(rmap(kPage).word, 0);
  EXPECT_DEATH(entries::drop(vm(), leaf_), "leaf missing from the reverse map");
}

TEST_F(PanicsDeathTest, LinkOutsideTheParentChainIsDropped) {
  falsify(table_.parents.word, 0);
  EXPECT_DEATH(entries::drop(vm(), link_), "link missing from the parent chain");
}

TEST_F(PanicsDeathTest, ChainNamesAnEmptyEntry) {
  falsify(rmap(kPage).word, SpteRef{leaf_.page, leaf_.index + 1}.pack());
  EXPECT_DEATH(entries::drop_chain(vm(), rmap(kPage)), "chain names an empty entry");
}

// The new table was writable until now: its shadowing flushes, and there others may run.
TEST_F(PanicsDeathTest, LinkIsFilledWhileItsTableIsMade) {
  constexpr Gva kNew{0x40a0'3000}, kWindow{0x8000'2000};
  guest.map(kNew, kPage);
  const Gpa new_table{guest.load_entry(guest.entry(kNew, 2)) & pte::kAddress};
  guest.map(kWindow, new_table);
  guest.write(kWindow, 0);
  const SpteRef link{&directory_, shadow_index(kNew, 2)};
  EXPECT_DEATH(
      {
        guest.platform.on_yield = [&](YieldPoint point, u32) {
          if (point == YieldPoint::kBeforeFlush)
            entries::set_mmio(vm(), link, spte_of(at(kDevice)));
        };
        guest.read(kNew);
      },
      "link filled meanwhile");
}

// ---- stores that were not filled

TEST_F(PanicsDeathTest, StoresAreEmpty) {
  MemoryCaches empty(guest.platform);
  EXPECT_DEATH(empty.take_page(), "memory cache ran dry: shadow page");
  EXPECT_DEATH(empty.take_chain(), "memory cache ran dry: chain descriptor");
  EXPECT_DEATH(empty.chunk_of(slot(), Gfn{slot().pages - 1}),
               "memory cache ran dry: part of a memslot");
}

// ---- pages

TEST_F(PanicsDeathTest, PageIsNotInTheHash) {
  falsify(hash_link(table_), table_.hash_next);
  EXPECT_DEATH(zap::page(vm(), &table_), "page missing from the hash");
}

TEST_F(PanicsDeathTest, InvalidPageIsZapped) {
  falsify_role<PageRole::Invalid>(table_, true);
  EXPECT_DEATH(zap::page(vm(), &table_), "an invalid page is zapped again");
}

TEST_F(PanicsDeathTest, ShadowedTableHasNoMemslot) {
  falsify(table_.gfn, Gfn::of(kNoMemory));
  EXPECT_DEATH(tracking::shadow(vcpu(), table_), "shadowed table without a memslot");
  EXPECT_DEATH(tracking::unshadow(vm(), table_), "shadowed table without a memslot");
}

TEST_F(PanicsDeathTest, UpperTableHasNoCount) {
  falsify(directory_.gfn, Gfn{slot().pages - 1});
  EXPECT_DEATH(tracking::unshadow(vm(), directory_), "a table that is write-tracked has no count");
}

TEST_F(PanicsDeathTest, UpperTableIsNotTracked) {
  falsify(tracked(directory_.gfn), 0);
  EXPECT_DEATH(unsync::try_to_make_writable(vm(), slot(), directory_.gfn, unsync::Caller::kFault),
               "upper table not tracked");
}

TEST_F(PanicsDeathTest, SyncedPageBecomesSynced) {
  EXPECT_DEATH(unsync::clear(vm(), table_), "page is not unsync");
}

TEST_F(PanicsDeathTest, RootOutlivesItsVcpus) {
  falsify(vm().pages.invalid_roots, 1);
  EXPECT_DEATH(guest.vm().destroy(), "a root outlived its vCPUs");
}

// ---- locks

TEST_F(PanicsDeathTest, LocksAreTakenAgainstTheirOrder) {
  EXPECT_DEATH(
      {
        Locked mmu(vm(), LockId::kMmu);
        Locked slots(vm(), LockId::kSlots);
      },
      "core: lock order");
}

TEST_F(PanicsDeathTest, ContextIsUnknown) {
  falsify(guest.platform.running, kMaxContexts);
  EXPECT_DEATH(Locked(vm(), LockId::kMmu), "a context that the core has no place for");
}

// ---- what an emulated access has checked

TEST_F(PanicsDeathTest, FrameIsGoneUnderAnEmulatedAccess) {
  guest.platform.after_lookup = [this](Hva hva) {
    if (hva == kMemory + kPage.raw) host(kPage).kind = FrameLookup::Kind::kNoFrame;
  };
  EXPECT_DEATH(guest.cpu().emulate(kVa, Access::kRead, 8, 0, false),
               "emulated load failed after it was checked");
  EXPECT_DEATH(guest.cpu().emulate(kVa, Access::kWrite, 8, 0, false),
               "emulated store failed after it was checked");
}

}  // namespace
}  // namespace mmu
