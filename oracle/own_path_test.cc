// Stores to an entry of the access's own path: which A and D must, may and must not be there
// afterwards, where the subject's path shows the new tables only.

#include <gtest/gtest.h>

#include <functional>

#include "oracle/testbed.h"

namespace twinwalk::oracle {
namespace {

// The page at kGva is the page directory of the address itself; the store puts another page table
// in.
constexpr std::uint64_t kGva = 0x5000, kNewTable = 0x110000, kNewFrame = 0x60000;
constexpr std::uint64_t kPde = Testbed::kPd, kLeaf = Testbed::kPt + 5 * 8,
                        kNewLeaf = kNewTable + 5 * 8;
constexpr std::uint64_t kAd = pte::kA | pte::kD;

class OwnPath : public ::testing::TestWithParam<Profile> {
 protected:
  Testbed bed{GetParam()};
  bool kvm() const { return GetParam() == Profile::kKvm; }

  void SetUp() override {
    bed.spec.write_word(kNewLeaf, kNewFrame | kPwu);
    bed.map(kGva, Testbed::kPd | kPwu, kPwu);
  }
  // The leaf was used, and A and D of all but the PDE were cleared without invalidation.
  void use_and_clear() {
    ASSERT_EQ(says(bed.access_fresh(AccessKind::kWrite, kGva + 8)), "ok");
    bed.write(kLeaf, Testbed::kPd | kPwu);
  }
  // The store, after which the subject shows the path that `change` makes of the right one.
  std::string store(const std::function<void(Path&)>& change = {}) {
    Op op;
    op.verb = Verb::kAccess;
    op.kind = static_cast<std::uint64_t>(AccessKind::kWrite);
    op.gva = kGva;
    op.size = 8;
    op.value = kNewTable | kPwu;
    Outcome o;
    o.gpa[0] = kPde;
    o.path[0].count = 4;
    o.path[0].entry[0] = Testbed::kPdpt | kPwua;
    o.path[0].entry[1] = Testbed::kPd | kPwua;
    o.path[0].entry[2] = op.value;
    o.path[0].entry[3] = kNewFrame | kPwu;
    o.kind = OutcomeKind::kOk;
    if (change) change(o.path[0]);
    return says(bed.step(op, o));
  }
  std::uint64_t open(std::uint64_t gpa) const {
    return bed.spec.open_bits(gpa, bed.spec.read_word(gpa));
  }
};
INSTANTIATE_TEST_SUITE_P(Profiles, OwnPath,
                         ::testing::Values(Profile::kKvm, Profile::kArchitecture),
                         [](const auto& p) { return std::string(name_of(p.param)); });

TEST_P(OwnPath, AWalkSetsAllItsBitsThoughTheStoreHidesThem) {
  EXPECT_EQ(store(), "ok");
  EXPECT_EQ(bed.spec.read_word(kLeaf), Testbed::kPd | kLeafUsed);
  EXPECT_EQ(bed.spec.read_word(kPde), kNewTable | kPwu) << "the store came after the walk";
  EXPECT_EQ(open(kLeaf), 0u) << "nothing but a walk can have made this access";
}

TEST_P(OwnPath, TheNewTablesWereNotWalked) {
  // Hardware may have walked them by speculation, a shadow MMU has no reason to.
  const std::string with_a = store([](Path& p) { p.entry[3] |= pte::kA; });
  EXPECT_EQ(with_a, kvm() ? "accessed-dirty/accessed" : "ok");
  bed.spec.reset(Machine{}, GetParam());
  SetUp();
  EXPECT_EQ(store([](Path& p) { p.entry[3] |= pte::kD; }), "accessed-dirty/dirty");
}

TEST_P(OwnPath, MissingBitsAboveTheStoreAreFound) {
  EXPECT_EQ(store([](Path& p) { p.entry[1] &= ~pte::kA; }), "accessed-dirty/accessed");
}

TEST_P(OwnPath, TheEntryStoredToHasNoBitsOfTheWalk) {
  EXPECT_EQ(store([](Path& p) { p.entry[2] |= pte::kD; }), "accessed-dirty/dirty");
}

TEST_P(OwnPath, OtherTablesThanTheStoreMadeAreFound) {
  EXPECT_EQ(store([](Path& p) { p.entry[3] = Testbed::kPd | kLeafUsed; }), "wrong-path/path");
  bed.spec.reset(Machine{}, GetParam());
  SetUp();
  EXPECT_EQ(store([](Path& p) { p.count = 3; }), "wrong-path/path");
}

TEST_P(OwnPath, ACachedTranslationLeavesThemOpen) {
  use_and_clear();
  EXPECT_EQ(store(), "ok");
  EXPECT_EQ(open(kLeaf), kAd);
  EXPECT_EQ(open(kPde) & pte::kD, 0u);
  EXPECT_EQ(open(kNewLeaf) & pte::kD, 0u);
}

TEST_P(OwnPath, AnInvalidationClosesThem) {
  use_and_clear();
  bed.invlpg(kGva);
  EXPECT_EQ(store(), "ok");
  EXPECT_EQ(open(kLeaf), 0u);
  EXPECT_EQ(bed.spec.read_word(kLeaf), Testbed::kPd | kLeafUsed);
}

TEST_P(OwnPath, OpenBitsOweNothingToTheDirtyLog) {
  use_and_clear();
  Op log;
  log.verb = Verb::kSlotFlags;
  log.flags = slot_flag::kLogDirty;
  ASSERT_EQ(says(bed.step(log, Outcome{})), "ok");
  EXPECT_EQ(store(), "ok");
  log.verb = Verb::kDirtyGet;
  bed.extra = {Testbed::kPd >> 12};
  Outcome gfns;
  gfns.extra_count = 1;
  EXPECT_EQ(says(bed.step(log, gfns)), "ok") << "whether the leaf was written is open";
}

TEST_P(OwnPath, OpenBitsEndWithAStore) {
  use_and_clear();
  EXPECT_EQ(store(), "ok");
  bed.write(kLeaf, kNewFrame | kPwua | pte::kD);
  EXPECT_EQ(open(kLeaf), 0u);
}

TEST_P(OwnPath, OpenBitsEndWithALaterWalkThatShowsThem) {
  use_and_clear();
  EXPECT_EQ(store(), "ok");
  bed.write(kPde, Testbed::kPt | kPwua);  // the leaf is on a path again
  bed.invlpg(kGva);
  Outcome o = bed.fresh(AccessKind::kRead, kGva);
  o.path[0].entry[3] = Testbed::kPd | kPwua;  // A by this read; the store set no D
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, o)), "ok");
  EXPECT_EQ(bed.spec.read_word(kLeaf), Testbed::kPd | kPwua);
  EXPECT_EQ(open(kLeaf), 0u);
  o.path[0].entry[3] = Testbed::kPd | kLeafUsed;
  EXPECT_NE(says(bed.access(AccessKind::kRead, kGva, o)), "ok") << "a read sets no D";
}

TEST_P(OwnPath, OpenBitsEndWithALoadOfTheEntry) {
  for (const std::uint64_t bits : {std::uint64_t{0}, std::uint64_t{pte::kA}, kAd}) {
    bed.spec.reset(Machine{}, GetParam());
    SetUp();
    bed.spec.write_word(Testbed::kRoot + 8, 0x121000 | kPwua);
    bed.spec.write_word(0x121000, 0x122000 | kPwua);
    bed.spec.write_word(0x122000, 0x123000 | kPwua);
    bed.spec.write_word(0x123000, Testbed::kPt | kPwua);
    use_and_clear();
    EXPECT_EQ(store(), "ok");
    Outcome o = bed.fresh(AccessKind::kRead, bit(39) + 5 * 8);
    o.value = Testbed::kPd | kPwu | bits;
    EXPECT_EQ(says(bed.access(AccessKind::kRead, bit(39) + 5 * 8, o)), "ok") << bits;
    EXPECT_EQ(bed.spec.read_word(kLeaf), o.value);
    EXPECT_EQ(open(kLeaf) & pte::kD, 0u);
    o.value ^= pte::kPcd;
    EXPECT_EQ(says(bed.access(AccessKind::kRead, bit(39) + 5 * 8, o)), "wrong-value/data");
  }
}

// --- stale ways off the present path -----------------------------------------

class OffPath : public ::testing::TestWithParam<Profile> {
 protected:
  static constexpr std::uint64_t kOld = 0x40000, kNew = 0x50000, kAt = 0x7000;
  static constexpr std::uint64_t kOldLeaf = Testbed::kPt + 7 * 8;
  Testbed bed{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Profiles, OffPath,
                         ::testing::Values(Profile::kKvm, Profile::kArchitecture),
                         [](const auto& p) { return std::string(name_of(p.param)); });

TEST_P(OffPath, AShadowShowsNoEntryThatWasNeverAccessed) {
  // The old page table gets a leaf without A after the host, unannounced, put another table in.
  bed.map(kAt, 0, kPwua);
  bed.map(kGva, kOld | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.write(kPde, kNewTable | kPwua, Writer::kHost);
  bed.write(kOldLeaf, kOld | kPwu, Writer::kGuest);
  Outcome o;
  o.kind = OutcomeKind::kOk;
  o.gpa[0] = kOld;
  o.value = bed.spec.read_word(kOld);
  bed.fill_path(kAt, o.path[0]);
  const std::string said = says(bed.access(AccessKind::kRead, kAt, o));
  if (GetParam() == Profile::kKvm) {
    EXPECT_NE(said, "ok") << "its walk sets A on the present path only";
    return;
  }
  EXPECT_EQ(said, "ok") << "a cached PDE leads to the leaf as it is";
  EXPECT_EQ(bed.spec.read_word(kOldLeaf), kOld | kPwua) << "and A is set there";
}

TEST_P(OffPath, AShadowMayShowOneThatWas) {
  bed.map(kGva, kOld | kLeafUsed);
  bed.access_fresh(AccessKind::kRead, kGva);
  bed.write(kPde, kNewTable | kPwua, Writer::kHost);
  bed.write(kLeaf, kNew | kLeafUsed, Writer::kGuest);
  Outcome o;
  o.kind = OutcomeKind::kOk;
  o.gpa[0] = kNew;
  o.value = bed.spec.read_word(kNew);
  bed.fill_path(kGva, o.path[0]);
  EXPECT_EQ(says(bed.access(AccessKind::kRead, kGva, o)), "ok");
}

}  // namespace
}  // namespace twinwalk::oracle
