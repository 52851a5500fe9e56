// What the audit says of links between shadow pages, and of each page by itself.

#include "mmu_core/testing/audit_scene.h"

namespace mmu {
namespace {

using testing::seen_of;
using testing::spte_of;

class AuditLinks : public testing::AuditTest {
 protected:
  const SpteRef link_ = at(kVa, 2);
  ShadowPage& child_ = page(kVa);
  const SpteRef split_ = at(kSplit, 2);  // links a direct page
  ShadowPage& direct_ = page(kSplit);
};
INSTANTIATE_TEST_SUITE_P(, AuditLinks, ::testing::ValuesIn(testing::kPagedModes), testing::name_of);

// ---- both ways

TEST_P(AuditLinks, LeadsToItsChild) {
  falsify(spte_of(link_), spte_of(link_) ^ bit(12));
  EXPECT_TRUE(complains(Class::kParent, "link does not lead to its child", link_));
}

TEST_P(AuditLinks, GrantsEverything) {
  clear_bits(spte_of(link_), pte::kW);
  EXPECT_TRUE(complains(Class::kParent, "link does not lead to its child", link_));
}

TEST_P(AuditLinks, ChildKnowsItsParent) {
  falsify(child_.parents.word, 0);
  EXPECT_TRUE(
      complains(Class::kParent, "link is not in its child's parent chain exactly once", link_));
}

TEST_P(AuditLinks, ChildKnowsItsParentOnce) {
  RmapChain twice;
  twice.count = 2;
  twice.ref[0] = twice.ref[1] = link_.pack();
  falsify(child_.parents.word, reinterpret_cast<u64>(&twice));
  EXPECT_TRUE(
      complains(Class::kParent, "link is not in its child's parent chain exactly once", link_));
}

TEST_P(AuditLinks, ParentThatIsNamedLinksHere) {
  falsify(child_.parents.word, split_.pack());
  EXPECT_TRUE(complains(Class::kParent, "parent chain names an entry that does not link here",
                        {&child_, 0}));
}

TEST_P(AuditLinks, ParentThatIsNamedHasALink) {
  falsify(child_.parents.word, at(kHuge, 2).pack());
  EXPECT_TRUE(complains(Class::kParent, "parent chain names an entry that does not link here",
                        {&child_, 0}));
}

TEST_P(AuditLinks, ParentThatIsNamedHasAnEntry) {
  falsify(child_.parents.word, SpteRef{link_.page, link_.index + 1}.pack());
  EXPECT_TRUE(complains(Class::kParent, "parent chain names an entry that does not link here",
                        {&child_, 0}));
}

TEST_P(AuditLinks, TableLeadsBackToItsPage) {
  guest.platform.set_descriptor(child_.hpa, link_.page);
  EXPECT_TRUE(complains(Class::kParent, "the table that a link leads to is another page's", link_));
  guest.platform.set_descriptor(child_.hpa, &child_);
}

TEST_P(AuditLinks, ParentKnowsOfAnUnsyncChild) {
  falsify(child_.unsync, true);
  EXPECT_TRUE(complains(Class::kUnsync, "a parent does not know of an unsync child", link_));
}

// ---- what the parent implies

TEST_P(AuditLinks, ChildIsALevelBelow) {
  hide_entries(child_);
  falsify_role<PageRole::Level>(child_, u8{2});
  EXPECT_TRUE(complains(Class::kRole, "child has the wrong level or is invalid", link_));
}

TEST_P(AuditLinks, ChildIsValid) {
  falsify_role<PageRole::Invalid>(child_, true);
  EXPECT_TRUE(complains(Class::kRole, "child has the wrong level or is invalid", link_));
}

TEST_P(AuditLinks, GuestsEntryWasPresent) {
  falsify(seen_of(link_), seen_of(link_) & ~pte::kP);
  EXPECT_TRUE(complains(Class::kRole, "link made from an entry that was not present", link_));
}

TEST_P(AuditLinks, TableIsNoLargePage) {
  falsify(seen_of(link_), seen_of(link_) | pte::kPs);
  EXPECT_TRUE(complains(Class::kRole, "child is direct where the guest has a table, or the reverse",
                        link_));
}

TEST_P(AuditLinks, LargePageIsNoTable) {
  falsify(seen_of(split_), seen_of(split_) & ~pte::kPs);
  EXPECT_TRUE(complains(Class::kRole, "child is direct where the guest has a table, or the reverse",
                        split_));
}

TEST_P(AuditLinks, ChildShadowsTheTableThatIsNamed) {
  falsify(seen_of(link_), seen_of(link_) ^ bit(12));
  EXPECT_TRUE(complains(Class::kRole, "child shadows another frame", link_));
}

TEST_P(AuditLinks, ChildShadowsItsQuadrant) {
  falsify_role<PageRole::Quadrant>(child_, static_cast<u8>(child_.role.quadrant() ^ 1));
  EXPECT_TRUE(complains(Class::kRole, "child shadows another quadrant", link_));
}

TEST_P(AuditLinks, ChildHasTheRightsOfThePath) {
  falsify(seen_of(link_), seen_of(link_) & ~pte::kW);
  EXPECT_TRUE(complains(Class::kRole, "child's role has other rights than the path grants", link_));
}

TEST_P(AuditLinks, ChildHasNoFewerRightsThanThePath) {
  falsify_role<PageRole::Access>(child_, u8{acc::kU | acc::kX});
  EXPECT_TRUE(complains(Class::kRole, "child's role has other rights than the path grants", link_));
}

TEST_P(AuditLinks, DirectChildCoversTheLargePage) {
  falsify(seen_of(split_), seen_of(split_) ^ bit(quadrants() ? 22 : 21));
  EXPECT_TRUE(complains(Class::kRole, "direct child covers another frame", split_));
}

TEST_P(AuditLinks, DirectChildCoversItsHalf) {
  falsify(direct_.gfn, direct_.gfn + pages_of_level(2));
  EXPECT_TRUE(complains(Class::kRole, "direct child covers another frame", split_));
}

TEST_P(AuditLinks, DirectChildHasTheRightsOfTheLargePage) {
  falsify(seen_of(split_), seen_of(split_) & ~pte::kU);
  EXPECT_TRUE(complains(Class::kContent, "entry is wider than the guest's tables permit", split_));
}

// ---- with more than one level of parents

class AuditHighLinks : public testing::AuditTest {};
INSTANTIATE_TEST_SUITE_P(, AuditHighLinks, ::testing::ValuesIn(testing::modes_with_arrays(false)),
                         testing::name_of);

TEST_P(AuditHighLinks, AncestorKnowsOfAnUnsyncChild) {
  make_unsync();
  const SpteRef above = at(kVa, 3);
  falsify(above.page->unsync_bitmap[above.index / 64], 0);
  EXPECT_TRUE(complains(Class::kUnsync, "a parent does not know of an unsync child", above));
}

// ---- direct pages below direct pages

class AuditDirect : public ::testing::Test, protected testing::AuditScene {
 protected:
  AuditDirect() : AuditScene({"NoPaging", &kNoPaging, 3}) {}
  static constexpr Gva kGva{kPage.raw};
  const SpteRef link_ = at(kGva, 2);
  ShadowPage& child_ = page(kGva);
};

TEST_F(AuditDirect, ChildIsOfTheSameRange) {
  falsify(child_.gfn, child_.gfn + pages_of_level(2));
  EXPECT_TRUE(complains(Class::kRole, "direct child is of another range or other rights", link_));
}

TEST_F(AuditDirect, ChildHasTheSameRights) {
  falsify_role<PageRole::Access>(child_, u8{acc::kU | acc::kX});
  EXPECT_TRUE(complains(Class::kRole, "direct child is of another range or other rights", link_));
}

TEST_F(AuditDirect, ChildIsDirect) {
  falsify_role<PageRole::Direct>(child_, false);
  EXPECT_TRUE(complains(Class::kRole, "direct child is of another range or other rights", link_));
}

}  // namespace
}  // namespace mmu
