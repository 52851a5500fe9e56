// What the audit says of shadow pages by themselves: hash, list, counts, tracking, unsync.

#include "mmu_core/testing/audit_scene.h"

namespace mmu {
namespace {

class AuditPages : public testing::AuditTest {
 protected:
  ShadowPage& leaf_page_ = page(kVa);
  ShadowPage& directory_ = page(kVa, 2);
  ShadowPage& direct_ = page(kSplit);
};
INSTANTIATE_TEST_SUITE_P(, AuditPages, ::testing::ValuesIn(testing::kPagedModes), testing::name_of);

// ---- counts

TEST_P(AuditPages, InUseAreAsManyAsCounted) {
  falsify(vm().pages.used, vm().pages.used + 1);
  EXPECT_TRUE(complains(Class::kCount, "page counts differ from a recount"));
}

TEST_P(AuditPages, IndirectAreAsManyAsCounted) {
  falsify(vm().pages.indirect, vm().pages.indirect - 1);
  EXPECT_TRUE(complains(Class::kCount, "page counts differ from a recount"));
}

TEST_P(AuditPages, LoggedSlotsAreAsManyAsCounted) {
  auto& slots = const_cast<SlotTable&>(vm().spaces[0].slots.active());
  falsify(slots.logged, slots.logged + 1);
  EXPECT_TRUE(complains(Class::kCount, "logged memslots differ from a recount"));
}

TEST_P(AuditPages, EntriesAreAsManyAsCounted) {
  falsify(leaf_page_.used, leaf_page_.used + 1);
  EXPECT_TRUE(complains(Class::kCount, "entry count differs from a recount", {&leaf_page_, 0}));
}

TEST_P(AuditPages, RootsAreAsManyAsCounted) {
  falsify(leaf_page_.root_count, 1);
  EXPECT_TRUE(complains(Class::kCount, "root count differs from a recount", {&leaf_page_, 0}));
}

TEST_P(AuditPages, RootIsCounted) {
  ShadowPage& root = *vcpu().root.page_for(kVa);
  falsify(root.root_count, 0);
  EXPECT_TRUE(complains(Class::kCount, "root count differs from a recount", {&root, 0}));
}

TEST_P(AuditPages, ActiveAreValid) {
  falsify_role<PageRole::Invalid>(leaf_page_, true);
  EXPECT_TRUE(complains(Class::kCount, "an invalid page is on the active list", {&leaf_page_, 0}));
}

TEST_P(AuditPages, ActiveAreOfThisGeneration) {
  falsify(leaf_page_.generation, leaf_page_.generation - 1);
  EXPECT_TRUE(complains(Class::kCount, "an obsolete page is on the active list", {&leaf_page_, 0}));
}

TEST_P(AuditPages, ActiveAreLinkedBothWays) {
  falsify(leaf_page_.prev, &directory_);
  EXPECT_TRUE(
      complains(Class::kCount, "the active list differs from end to end", {&leaf_page_, 0}));
}

TEST_P(AuditPages, OldestIsTheLast) {
  ShadowPage& last = *vm().pages.oldest;
  falsify(vm().pages.oldest, last.prev);
  EXPECT_TRUE(complains(Class::kCount, "the oldest page is not the last", {&last, 0}));
}

// A lower quota takes pages away at once, all but roots.
TEST_P(AuditPages, InUseAreNoMoreThanTheQuota) {
  std::vector<ShadowPage> more(kDefaultQuota);
  ShadowPage* last = vm().pages.oldest;
  falsify(vm().pages.oldest, &more.back());
  falsify(last->next, &more.front());
  for (ShadowPage& p : more) {
    p.prev = last;
    p.next = &p == &more.back() ? nullptr : &p + 1;
    p.spt = directory_.spt;
    last = &p;
  }
  EXPECT_TRUE(complains(Class::kCount, "more pages are in use than the quota allows"));
}

// ---- what an operation leaves behind

TEST_P(AuditPages, DoomedAreZapped) {
  falsify(leaf_page_.doomed, true);
  EXPECT_TRUE(complains(Class::kLeak, "a page marked to be zapped was not", {&leaf_page_, 0}));
}

TEST_P(AuditPages, ZappedAreFreed) {
  ShadowPage zapped;
  falsify(vm().pages.condemned, &zapped);
  EXPECT_TRUE(complains(Class::kLeak, "zapped pages were not freed"));
}

TEST_P(AuditPages, FlushThatIsOwedIsPaid) {
  falsify(vm().flush_owed, true);
  EXPECT_TRUE(complains(Class::kNotifier, "a flush is owed and was not issued"));
}

// ---- the hash

TEST_P(AuditPages, HashHasThePage) {
  falsify(hash_link(leaf_page_), leaf_page_.hash_next);
  EXPECT_TRUE(
      complains(Class::kHash, "page is not in its hash bucket exactly once", {&leaf_page_, 0}));
}

TEST_P(AuditPages, HashHasOnePageForARole) {
  ShadowPage twin = direct_;
  falsify(direct_.hash_next, &twin);
  EXPECT_TRUE(complains(Class::kHash, "two pages have the same gfn and role", {&direct_, 0}));
}

TEST_P(AuditPages, HashHasNothingElse) {
  ShadowPage gone;
  gone.hash_next = direct_.hash_next;
  falsify(direct_.hash_next, &gone);
  EXPECT_TRUE(complains(Class::kHash, "a page that is not active is in the hash", {&direct_, 0}));
}

// ---- the role

TEST_P(AuditPages, EntrySizeIsThePagingModes) {
  falsify_role<PageRole::FourByte>(leaf_page_, !quadrants());
  EXPECT_TRUE(complains(Class::kRole, "entry size does not fit the paging mode", {&leaf_page_, 0}));
}

TEST_P(AuditPages, DirectPageHasNoEntrySize) {
  falsify_role<PageRole::FourByte>(direct_, true);
  EXPECT_TRUE(complains(Class::kRole, "entry size does not fit the paging mode", {&direct_, 0}));
}

TEST_P(AuditPages, QuadrantIsOneOfTheLevel) {
  falsify_role<PageRole::Quadrant>(leaf_page_, static_cast<u8>(quadrants() ? 2 : 1));
  EXPECT_TRUE(
      complains(Class::kRole, "a table of this level has no such quadrant", {&leaf_page_, 0}));
}

TEST_P(AuditPages, DirectPageHasNoQuadrant) {
  falsify_role<PageRole::Quadrant>(direct_, u8{1});
  EXPECT_TRUE(complains(Class::kRole, "a table of this level has no such quadrant", {&direct_, 0}));
}

// ---- unsync

TEST_P(AuditPages, UpperTableIsNotUnsync) {
  falsify(directory_.unsync, true);
  EXPECT_TRUE(
      complains(Class::kUnsync, "only level-1 indirect pages may be unsync", {&directory_, 0}));
}

TEST_P(AuditPages, DirectPageIsNotUnsync) {
  falsify(direct_.unsync, true);
  EXPECT_TRUE(
      complains(Class::kUnsync, "only level-1 indirect pages may be unsync", {&direct_, 0}));
}

TEST_P(AuditPages, UnsyncChildrenAreAsManyAsCounted) {
  make_unsync();
  falsify(directory_.unsync_children, 0);
  EXPECT_TRUE(complains(Class::kUnsync, "unsync children differ from a recount", {&directory_, 0}));
}

TEST_P(AuditPages, EntryWithAnUnsyncChildLinksIt) {
  const unsigned leaf = at(kHuge, 2).index, empty = leaf + 2;
  for (const unsigned i : {leaf, empty}) {
    ShadowPage& p = page(kHuge, 2);
    p.unsync_bitmap[i / 64] ^= bit(i % 64);
    EXPECT_TRUE(
        complains(Class::kUnsync, "an entry that links nothing has an unsync child", {&p, i}));
    p.unsync_bitmap[i / 64] ^= bit(i % 64);
  }
}

TEST_P(AuditPages, UnsyncPageIsNoUpperTable) {
  make_unsync();
  ShadowPage upper;
  upper.gfn = leaf_page_.gfn;
  upper.role = directory_.role;
  upper.hash_next = leaf_page_.hash_next;
  falsify(leaf_page_.hash_next, &upper);
  EXPECT_TRUE(complains(Class::kUnsync,
                        "what is unsync is also an upper table, whose writes are to be seen",
                        {&leaf_page_, 0}));
}

// ---- what a shadowed table costs its gfn

TEST_P(AuditPages, ShadowedTableLiesInAMemslot) {
  falsify(leaf_page_.gfn, Gfn::of(kNoMemory));
  EXPECT_TRUE(complains(Class::kRole, "shadowed table lies in no memslot", {&leaf_page_, 0}));
}

TEST_P(AuditPages, UpperTableIsTracked) {
  falsify(tracked(directory_.gfn), 0);
  EXPECT_TRUE(complains(Class::kCount, "write tracking differs from a recount", {&directory_, 0}));
}

TEST_P(AuditPages, PageTableIsNotTracked) {
  falsify(tracked(leaf_page_.gfn), 1);
  EXPECT_TRUE(complains(Class::kCount, "write tracking differs from a recount", {&leaf_page_, 0}));
}

TEST_P(AuditPages, ShadowedTableForbidsLargePages) {
  for (const unsigned level : {2u, 3u}) {
    LargeInfo& large = slot().large(leaf_page_.gfn, level);
    const LargeInfo was = large;
    large.disallow = 0;
    EXPECT_TRUE(
        complains(Class::kCount, "a shadowed gfn does not forbid large mappings", {&leaf_page_, 0}))
        << "level " << level;
    large = was;
  }
}

}  // namespace
}  // namespace mmu
