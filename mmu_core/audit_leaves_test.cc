// What the audit says of leaves and of MMIO entries.

#include "mmu_core/testing/audit_scene.h"

namespace mmu {
namespace {

using testing::AuditScene;
using testing::kMemory;
using testing::seen_of;
using testing::spte_of;

constexpr const char* kNotOnceInRmap = "leaf is not in its gfn's reverse map exactly once";
constexpr const char* kWider = "entry is wider than the guest's tables permit";
constexpr const char* kMmioWider = "MMIO entry is wider than the guest's tables permit";
constexpr u64 kWritable = pte::kW | spte::kMmuWritable | spte::kHostWritable;

class AuditLeaves : public testing::AuditTest {
 protected:
  const SpteRef leaf_ = at(kVa);
  const SpteRef huge_ = at(kHuge, 2);
};
INSTANTIATE_TEST_SUITE_P(, AuditLeaves, ::testing::ValuesIn(testing::kPagedModes),
                         testing::name_of);

// ---- the entry itself

TEST_P(AuditLeaves, FilledEntryIsNotEmpty) {
  falsify(spte_of(leaf_), 0);
  EXPECT_TRUE(complains(Class::kCount, "an entry counted as filled is empty", leaf_));
}

TEST_P(AuditLeaves, EntryIsATranslationOrMmio) {
  clear_bits(spte_of(leaf_), spte::kPresent);
  EXPECT_TRUE(complains(Class::kReserved, "neither translation nor MMIO entry", leaf_));
}

TEST_P(AuditLeaves, MmioEntryFaults) {
  falsify(vm().own_reserved.table[0], 0);
  EXPECT_TRUE(complains(Class::kReserved, "neither translation nor MMIO entry", at(kDevice)));
}

TEST_P(AuditLeaves, EntryIsWithinTheHostsWidth) {
  set_bits(spte_of(leaf_), bit(50));
  EXPECT_TRUE(complains(Class::kReserved, "entry has a reserved bit", leaf_));
}

// ---- its place in the reverse map

TEST_P(AuditLeaves, GfnHasAMemslot) {
  falsify_gfn(leaf_, Gfn::of(kNoMemory));
  EXPECT_TRUE(complains(Class::kRmap, "leaf maps a gfn without a memslot", leaf_));
}

TEST_P(AuditLeaves, ReverseMapHasTheLeaf) {
  falsify(rmap(kPage).word, 0);
  EXPECT_TRUE(complains(Class::kRmap, kNotOnceInRmap, leaf_));
}

TEST_P(AuditLeaves, ReverseMapHasTheLeafOnce) {
  RmapChain twice;
  twice.count = 2;
  twice.ref[0] = twice.ref[1] = leaf_.pack();
  falsify(rmap(kPage).word, reinterpret_cast<u64>(&twice));
  EXPECT_TRUE(complains(Class::kRmap, kNotOnceInRmap, leaf_));
}

TEST_P(AuditLeaves, ReverseMapHasTheLargeLeaf) {
  falsify(rmap(kHugePage, 2).word, 0);
  EXPECT_TRUE(complains(Class::kRmap, kNotOnceInRmap, huge_));
}

TEST_P(AuditLeaves, ReverseMapHasTheDirectLeaf) {
  falsify(rmap(kSplitPage).word, 0);
  EXPECT_TRUE(complains(Class::kRmap, kNotOnceInRmap, at(kSplit)));
}

TEST_P(AuditLeaves, ReverseMapsHaveNothingElse) {
  falsify(vm().rmap_refs, vm().rmap_refs + 1);
  EXPECT_TRUE(complains(Class::kRmap, "reverse maps hold refs that no entry has"));
}

// ---- the frame

TEST_P(AuditLeaves, RangeThatIsInvalidatedHasNoLeaf) {
  pretend_invalidation(kMemory + (kPage.raw + kPageSize - 1), kMemory + kPage.raw + kPageSize);
  EXPECT_TRUE(complains(Class::kNotifier, "leaf inside a range that is being invalidated", leaf_));
}

TEST_P(AuditLeaves, RangeThatIsInvalidatedHasNoPartOfALargeLeaf) {
  const Hva last = kMemory + kHugePage.raw + (pages_of_level(2) - 1) * kPageSize;
  pretend_invalidation(last, last + kPageSize);
  EXPECT_TRUE(complains(Class::kNotifier, "leaf inside a range that is being invalidated", huge_));
}

TEST_P(AuditLeaves, FrameBacksTheGfn) {
  falsify(host(kPage).pfn, host(kPage + kPageSize).pfn);
  EXPECT_TRUE(complains(Class::kNotifier, "leaf maps a frame that does not back its gfn", leaf_));
}

TEST_P(AuditLeaves, FrameIsThere) {
  falsify(host(kSplitPage).kind, FrameLookup::Kind::kNoFrame);
  EXPECT_TRUE(
      complains(Class::kNotifier, "leaf maps a frame that does not back its gfn", at(kSplit)));
}

TEST_P(AuditLeaves, LargeLeafHasALargeHostPage) {
  falsify(host(kHugePage).host_level, 1);
  EXPECT_TRUE(complains(Class::kNotifier, "large leaf over smaller host pages", huge_));
}

TEST_P(AuditLeaves, LargeLeafLiesInItsMemslot) {
  falsify(slot().pages, slot().pages - 1);
  EXPECT_TRUE(complains(Class::kRmap, "large leaf reaches beyond its memslot", huge_));
}

TEST_P(AuditLeaves, FrameThatIsWrittenIsWritable) {
  falsify(host(kPage).writable, false);
  EXPECT_TRUE(complains(Class::kNotifier,
                        "writable leaf over a frame that the host lets be read only", leaf_));
}

// ---- what was granted when it was installed

constexpr const char* kOtherRights = "leaf grants other rights than were stored for it";

TEST_P(AuditLeaves, GrantsNoMoreThanWasStored) {
  set_bits(spte_of(at(kReadOnly)), kWritable);
  set_bits(spte_of(at(kSuper)), pte::kU);
  EXPECT_TRUE(complains(Class::kContent, kOtherRights, at(kReadOnly)));
  EXPECT_TRUE(complains(Class::kContent, kOtherRights, at(kSuper)));
}

// Without U it would escape SMEP and SMAP.
TEST_P(AuditLeaves, GrantsNoLessThanWasStored) {
  clear_bits(spte_of(leaf_), pte::kU);
  EXPECT_TRUE(complains(Class::kContent, kOtherRights, leaf_));
}

TEST_P(AuditLeaves, MayLoseTheWriteThatWasStored) {
  falsify(spte_of(leaf_), spte::without_write(spte_of(leaf_)));
  EXPECT_TRUE(silent());
}

TEST_P(AuditLeaves, DirectOneGrantsWhatItsPageDoes) {
  const SpteRef leaf = at(kSplit);
  set_bits(spte_of(leaf), pte::kXd);
  EXPECT_TRUE(complains(Class::kContent, kOtherRights, leaf));
}

TEST_P(AuditLeaves, UnsyncOneGrantsWhatWasStored) {
  make_unsync();
  set_bits(spte_of(at(kSuper)), pte::kU);
  EXPECT_TRUE(complains(Class::kContent, kOtherRights, at(kSuper)));
}

TEST_P(AuditLeaves, OneWhoseGuestEntryTheHostEditedGrantsWhatWasStored) {
  host_flips(kSuper, pte::kU);
  set_bits(spte_of(at(kSuper)), pte::kU);
  EXPECT_TRUE(complains(Class::kContent, kOtherRights, at(kSuper)));
}

TEST_P(AuditLeaves, WriteIsGrantedByItsSoftwareBits) {
  for (const u64 lost : {spte::kHostWritable, spte::kMmuWritable}) {
    const u64 was = spte_of(leaf_);
    spte_of(leaf_) = was & ~lost;
    EXPECT_TRUE(complains(Class::kWritable, "the software bits of a leaf contradict its W", leaf_));
    spte_of(leaf_) = was;
  }
}

TEST_P(AuditLeaves, SoftwareBitsOfWhatIsReadOnlyGrantNoWrite) {
  const SpteRef leaf = at(kReadOnly);
  set_bits(spte_of(leaf), spte::kMmuWritable);
  EXPECT_TRUE(complains(Class::kWritable, "the software bits of a leaf contradict its W", leaf));
}

// ---- who may be written

TEST_P(AuditLeaves, ReadOnlySlotIsNotWritten) {
  falsify(slot().read_only, true);
  EXPECT_TRUE(complains(Class::kWritable, "writable leaf in a read-only slot", leaf_));
}

TEST_P(AuditLeaves, WrittenPageIsInTheLog) {
  ASSERT_EQ(guest.slot_request(MemslotRequest::Kind::kFlags, 0, Gfn{}, false, true), Status::kOk);
  guest.write(kVa, 2);
  falsify(slot().arrays.dirty[Gfn::of(kPage).raw / 64], 0);
  EXPECT_TRUE(complains(Class::kDirty, "writable leaf whose page is not in the dirty log", leaf_));
}

TEST_P(AuditLeaves, LogHasNoLargeWritableLeaf) {
  std::vector<u64> all(testing::Guest::kPages / 64, ~u64{0});
  falsify(slot().arrays.dirty, all.data());
  falsify(slot().log_dirty, true);
  EXPECT_TRUE(complains(Class::kDirty, "writable leaf whose page is not in the dirty log", huge_));
}

TEST_P(AuditLeaves, LargeLeafHoldsNoTable) {
  falsify(slot().large(Gfn::of(kHugePage), 2).disallow, 1);
  EXPECT_TRUE(complains(Class::kWritable, "large leaf over a shadowed table", huge_));
}

TEST_P(AuditLeaves, UpperTableIsNotWritten) {
  const SpteRef leaf = at(kDirectory);
  set_bits(spte_of(leaf), kWritable);
  EXPECT_TRUE(complains(Class::kWritable, "writable leaf over a tracked table", leaf));
}

TEST_P(AuditLeaves, WhatOthersTrackIsNotWritten) {
  const SpteRef leaf = at(kVa);
  falsify(watched(leaf.page->leaf_gfn(leaf.index)), 1);
  EXPECT_TRUE(complains(Class::kWritable, "writable leaf over a page that others track", leaf));
}

TEST_P(AuditLeaves, SyncedTableIsNotWritten) {
  const SpteRef leaf = at(kTable);
  set_bits(spte_of(leaf), kWritable);
  EXPECT_TRUE(complains(Class::kWritable, "writable leaf over a synced table", leaf));
}

TEST_P(AuditLeaves, TableThatIsWrittenIsUnsync) {
  make_unsync();
  falsify(page(kVa).unsync, false);
  EXPECT_TRUE(complains(Class::kWritable, "writable leaf over a synced table", at(kTable)));
}

// ---- what the guest's entry says

TEST_P(AuditLeaves, FrameIsTheGuestEntrys) {
  falsify_gfn(leaf_, Gfn::of(kPage) + 1);
  EXPECT_TRUE(complains(Class::kContent, "leaf maps another frame than the guest's entry", leaf_));
}

TEST_P(AuditLeaves, LargeFrameIsTheGuestEntrys) {
  falsify_gfn(huge_, Gfn{Gfn::of(kHugePage).raw - pages_of_level(2)});
  EXPECT_TRUE(complains(Class::kContent, "leaf maps another frame than the guest's entry", huge_));
}

TEST_P(AuditLeaves, WriteIsTheGuestEntrysToGive) {
  const SpteRef leaf = at(kReadOnly);
  set_bits(spte_of(leaf), kWritable);
  EXPECT_TRUE(complains(Class::kContent, kWider, leaf));
}

TEST_P(AuditLeaves, UserAccessIsTheGuestEntrysToGive) {
  const SpteRef leaf = at(kSuper);
  set_bits(spte_of(leaf), pte::kU);
  EXPECT_TRUE(complains(Class::kContent, kWider, leaf));
}

TEST_P(AuditLeaves, RightsArePathsToGive) {
  falsify_role<PageRole::Access>(*leaf_.page, u8{acc::kU | acc::kX});
  EXPECT_TRUE(complains(Class::kContent, kWider, leaf_));
}

TEST_P(AuditLeaves, FirstWriteIsSeen) {
  const SpteRef leaf = at(kClean);
  set_bits(spte_of(leaf), kWritable);
  EXPECT_TRUE(
      complains(Class::kContent, "writable leaf while the guest's dirty bit is clear", leaf));
}

// What the host did to a guest entry says nothing about the core.
TEST_P(AuditLeaves, EntryThatTheHostEditedIsNotCompared) {
  host_flips(kReadOnly, pte::kU);
  EXPECT_TRUE(silent());
}

TEST_P(AuditLeaves, UnsyncPageIsNotCompared) {
  make_unsync();
  host_flips(kVa, pte::kD);
  clear_bits(seen_of(leaf_), pte::kD);
  EXPECT_TRUE(silent());
}

// ---- MMIO

class AuditMmio : public testing::AuditTest {
 protected:
  const SpteRef entry_ = at(kDevice);
  u64 renamed(Gfn gfn) const { return (spte_of(entry_) & ~(bits(12, 50))) | gfn.base().raw; }
};
INSTANTIATE_TEST_SUITE_P(, AuditMmio, ::testing::ValuesIn(testing::kPagedModes), testing::name_of);

constexpr const char* kStandsForMemory = "MMIO entry of this generation stands for memory";

TEST_P(AuditMmio, StandsForNoMemory) {
  falsify(spte_of(entry_), renamed(Gfn::of(kPage)));
  EXPECT_TRUE(complains(Class::kRmap, kStandsForMemory, entry_));
}

// A memslot came; nobody looks for entries that it makes wrong.
TEST_P(AuditMmio, OfAnOldGenerationMay) {
  guest.add_slot(1, Gfn::of(kNoMemory), 1, kMemory + (u64{1} << 32));
  ASSERT_TRUE(spte::is_mmio(spte_of(entry_)));
  EXPECT_TRUE(silent());
}

TEST_P(AuditMmio, NamesTheGuestEntrysGfn) {
  falsify(spte_of(entry_), renamed(Gfn::of(kNoMemory) + 1));
  EXPECT_TRUE(
      complains(Class::kContent, "MMIO entry names another gfn than the guest's entry", entry_));
}

TEST_P(AuditMmio, OfAnUnsyncPageIsNotCompared) {
  make_unsync();
  falsify(spte_of(entry_), renamed(Gfn::of(kNoMemory) + 1));
  EXPECT_TRUE(silent());
}

TEST_P(AuditMmio, GrantsNoMoreThanTheGuestsEntry) {
  host_flips(kDevice, pte::kU);
  clear_bits(seen_of(entry_), pte::kU);
  EXPECT_TRUE(complains(Class::kContent, kMmioWider, entry_));
}

TEST_P(AuditMmio, GrantsNoMoreThanThePath) {
  falsify_role<PageRole::Access>(*entry_.page, u8{acc::kU | acc::kX});
  EXPECT_TRUE(complains(Class::kContent, kMmioWider, entry_));
}

TEST_P(AuditMmio, HasNoProtectionKey) {
  falsify_role<PageRole::Pke>(*entry_.page, true);
  EXPECT_TRUE(complains(Class::kRole, "MMIO entry where protection keys count", entry_));
}

class AuditDirectMmio : public ::testing::Test, protected AuditScene {
 protected:
  AuditDirectMmio() : AuditScene({"NoPaging", &kNoPaging, 3}) { guest.read(Gva{kNoMemory.raw}); }
};

TEST_F(AuditDirectMmio, NamesTheGfnOfItsPlace) {
  const SpteRef entry = at(Gva{kNoMemory.raw});
  falsify(spte_of(entry), spte_of(entry) ^ bit(12));
  EXPECT_TRUE(complains(Class::kContent, "MMIO entry names another gfn than the page maps", entry));
}

// ---- what the hardware may walk as a PAE table

class AuditLegacyLeaves : public testing::AuditTest {};
INSTANTIATE_TEST_SUITE_P(, AuditLegacyLeaves, ::testing::ValuesIn(testing::modes_with_arrays(true)),
                         testing::name_of);

TEST_P(AuditLegacyLeaves, HaveNoProtectionKey) {
  set_bits(spte_of(at(kVa)), bit(59));
  EXPECT_TRUE(complains(Class::kReserved, "entry has a reserved bit", at(kVa)));
}

// ---- CR0.WP = 0: a user page that the supervisor writes is the supervisor's alone

class AuditWpTrick : public testing::AuditTest {
 protected:
  AuditWpTrick() {
    EXPECT_TRUE(guest.cpu().set_cr4(guest.cpu().cr4() | cr4::kSmep));
    EXPECT_TRUE(guest.cpu().set_cr0(guest.cpu().cr0() & ~cr0::kWp));
    guest.write(kReadOnly, 1);
    leaf_ = at(kReadOnly);
    EXPECT_TRUE(silent()) << "the write that it grants is no more than the guest's tables permit";
  }
  SpteRef leaf_;
};
INSTANTIATE_TEST_SUITE_P(, AuditWpTrick, ::testing::ValuesIn(testing::kPagedModes),
                         testing::name_of);

TEST_P(AuditWpTrick, IsNotExecutedUnderSmep) {
  clear_bits(spte_of(leaf_), pte::kXd);
  EXPECT_TRUE(complains(Class::kContent,
                        "a user page made supervisor may be executed in spite of SMEP", leaf_));
}

TEST_P(AuditWpTrick, IsNotTheUsers) {
  set_bits(spte_of(leaf_), pte::kU);
  EXPECT_TRUE(complains(Class::kContent, kWider, leaf_));
}

}  // namespace
}  // namespace mmu
