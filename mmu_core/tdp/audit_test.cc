// Each complaint of the audit of two dimensions: one fact is falsified, and the audit says so.

#include "mmu_core/tdp/audit.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using tdp::Ref;
using tdp::Table;
using Class = AuditFinding::Class;

constexpr Gpa kPage{0x40'3000}, kLarge{0x80'0000}, kDevice{0x8000'0000};

class Findings final : public AuditSink {
 public:
  void on_finding(const AuditFinding& f) override { all.push_back(f); }
  std::vector<AuditFinding> all;
};

class TdpAudit : public ::testing::TestWithParam<TdpMachine> {
 protected:
  TdpAudit() {
    g_.back_large(kLarge, 2);
    g_.write(kPage);
    g_.write(kLarge);
    g_.read(kDevice);
  }
  void TearDown() override {
    for (; !undo_.empty(); undo_.pop_back()) undo_.back()();
    g_.audit();
  }
  static VmConfig config() {
    VmConfig c = GetParam().config();
    c.vcpus = 2;
    return c;
  }
  template <class T, class V>
  void falsify(T& fact, V value) {
    undo_.emplace_back([&fact, was = fact] { fact = was; });
    fact = static_cast<T>(value);
  }
  ::testing::AssertionResult complains(Class cls, const std::string& what) {
    Findings found;
    g_.vm().audit(found);
    for (const AuditFinding& f : found.all)
      if (f.cls == cls && what == f.what) return ::testing::AssertionSuccess();
    auto r = ::testing::AssertionFailure() << "no \"" << what << "\"; but";
    for (const AuditFinding& f : found.all) r << " \"" << f.what << '"';
    return r;
  }
  VmState& vm() { return g_.state(); }
  tdp::Format& format() { return vm().tdp.format; }
  // The entry for gpa at a level.
  Ref at(Gpa gpa, unsigned level = 1) {
    Ref ref{vm().tdp.roots, tdp::index_at(Gfn::of(gpa), vm().tdp.roots->level)};
    while (ref.level() > level) {
      Table* const child = ref.child();
      ref = {child, tdp::index_at(Gfn::of(gpa), child->level)};
    }
    return ref;
  }
  u64& entry(Gpa gpa, unsigned level = 1) { return *at(gpa, level).word(); }
  Memslot& slot() { return *vm().spaces[0].slots.by_id(0); }
  HostPage& host(Gpa gpa) { return g_.platform.host_page(kTdpMemory + gpa.raw); }

  TdpGuest g_{GetParam(), config()};
  std::vector<std::function<void()>> undo_;
};
INSTANTIATE_TEST_SUITE_P(, TdpAudit, ::testing::ValuesIn(kTdpMachines), tdp_name);

TEST_P(TdpAudit, HasNothingToSayOfWhatIsWhole) { g_.audit(); }

// ---- roots and tables

TEST_P(TdpAudit, Tables) {
  falsify(vm().tdp.tables, vm().tdp.tables + 1);
  EXPECT_TRUE(complains(Class::kCount, "tables differ from a recount"));
}

TEST_P(TdpAudit, RootIsOne) {
  falsify(vm().tdp.roots->base, Gfn{512});
  EXPECT_TRUE(complains(Class::kRole, "a root is none"));
}

TEST_P(TdpAudit, RootReferences) {
  falsify(vm().tdp.roots->refs, vm().tdp.roots->refs + 1);
  EXPECT_TRUE(complains(Class::kCount, "root references differ from a recount"));
}

TEST_P(TdpAudit, RootsAreForDifferentThings) {
  ASSERT_TRUE(g_.cpu(1).set_smm(true));
  ASSERT_TRUE(g_.cpu(1).enter().ok);
  falsify(vm().tdp.roots->key.space, 0);
  EXPECT_TRUE(complains(Class::kHash, "two valid roots are for the same"));
  EXPECT_TRUE(complains(Class::kLeak, "a vCPU keeps a root that is not for it"));
}

TEST_P(TdpAudit, InvalidRootIsEmptied) {
  falsify(vm().tdp.roots->invalid, true);
  falsify(vm().tdp.roots->to_be_emptied, true);
  EXPECT_TRUE(complains(Class::kLeak, "an invalid root was not emptied"));
  EXPECT_TRUE(complains(Class::kLeak, "an invalid root is not empty"));
  EXPECT_TRUE(complains(Class::kLeak, "a vCPU keeps a root that is not for it"));
}

TEST_P(TdpAudit, LoadedRootIsThere) {
  Table none;
  falsify(vm().vcpu[1].tdp.root, &none);
  EXPECT_TRUE(complains(Class::kLeak, "a vCPU has a root that is gone"));
}

using TdpAuditPae = TdpAudit;
INSTANTIATE_TEST_SUITE_P(, TdpAuditPae, ::testing::ValuesIn(machines([](const TdpMachine& m) {
                           return m.levels == 3;
                         })),
                         tdp_name);

TEST_P(TdpAuditPae, PaeRootHasFourEntries) {
  falsify(vm().tdp.roots->entry[4], entry(kPage, 3));
  EXPECT_TRUE(complains(Class::kReserved, "a PAE root has more than four entries"));
}

// ---- links

TEST_P(TdpAudit, LinkLeadsToItsChild) {
  falsify(entry(kPage, 2), entry(kPage, 2) + kPageSize);
  EXPECT_TRUE(complains(Class::kParent, "link leads to another table than the core thinks"));
}

TEST_P(TdpAudit, TableLeadsBackToItsDescriptor) {
  Table* const child = at(kPage).table;
  g_.platform.set_descriptor(child->hpa, child->parent);
  EXPECT_TRUE(complains(Class::kParent, "the table that a link leads to is another descriptor's"));
  g_.platform.set_descriptor(child->hpa, child);
}

TEST_P(TdpAudit, LinkGrantsEverything) {
  falsify(entry(kPage, 2), entry(kPage, 2) & ~format().write);
  EXPECT_TRUE(complains(Class::kRole, "link does not grant everything"));
}

TEST_P(TdpAudit, ChildHasItsParent) {
  falsify(at(kPage).table->parent_index, at(kPage, 2).index + 1);
  EXPECT_TRUE(complains(Class::kParent, "child has another parent"));
}

TEST_P(TdpAudit, ChildIsForTheGfnsOfItsLink) {
  falsify(at(kPage).table->base, Gfn{0});
  EXPECT_TRUE(complains(Class::kRole, "child is for other gfns than its link"));
}

// ---- entries

TEST_P(TdpAudit, NoEntryIsFrozen) {
  falsify(entry(kPage), tdp::kFrozen);
  EXPECT_TRUE(complains(Class::kLeak, "an entry was left frozen"));
}

TEST_P(TdpAudit, EntryIsATranslationOrMmio) {
  falsify(entry(kPage), entry(kPage) & ~tdp::kPresent);
  EXPECT_TRUE(complains(Class::kReserved, "neither translation nor MMIO entry"));
}

TEST_P(TdpAudit, EntryIsWithinTheHostsWidth) {
  falsify(entry(kPage), entry(kPage) | bit(50));
  EXPECT_TRUE(complains(Class::kReserved, "entry has a reserved bit"));
}

// Neither writable nor what a lock-free fault makes writable.
TEST_P(TdpAudit, WhatOthersTrackIsNotWritten) {
  constexpr const char* kTracked = "writable leaf over a page that others track";
  constexpr Gpa kFar = kPage + 0x100 * kPageSize;  // of another part of the slot
  for (const Gpa page : {kPage, kLarge + 0x80 * kPageSize}) {
    ASSERT_EQ(g_.vm().track_writes(0, Gfn::of(page)), Status::kOk);
    ASSERT_EQ(g_.vm().track_writes(0, Gfn::of(kFar)), Status::kOk);
    const unsigned level = page == kPage ? 1 : 2;
    u64& e = entry(page, level);
    falsify(e, e | format().mmu_writable);
    EXPECT_TRUE(complains(Class::kWritable, kTracked));
    e |= format().write;
    EXPECT_TRUE(complains(Class::kWritable, kTracked));
    undo_.back()();
  }
}

TEST_P(TdpAudit, LargeLeafIsAligned) {
  falsify(entry(kLarge, 2), entry(kLarge, 2) | bit(13));
  EXPECT_TRUE(complains(Class::kReserved, "entry has a reserved bit"));
}

TEST_P(TdpAudit, MmioIsOfItsGfn) {
  falsify(entry(kDevice), entry(kDevice) + kPageSize);
  EXPECT_TRUE(complains(Class::kContent, "MMIO entry names another gfn than it stands for"));
}

TEST_P(TdpAudit, MmioIsOfLevel1) {
  falsify(entry(Gpa{0x10'0000}, 2), tdp::make_mmio(format(), Gfn{0}, 0));
  EXPECT_TRUE(complains(Class::kRole, "MMIO entry above level 1"));
}

TEST_P(TdpAudit, MmioStandsForNoMemory) {
  const u64 generation = vm().spaces[0].slots.generation();
  falsify(entry(kPage + kPageSize), tdp::make_mmio(format(), Gfn::of(kPage) + 1, generation));
  EXPECT_TRUE(complains(Class::kRmap, "MMIO entry of this generation stands for memory"));
}

using TdpAuditNpt = TdpAudit;
INSTANTIATE_TEST_SUITE_P(, TdpAuditNpt, ::testing::ValuesIn(machines(has_npt)), tdp_name);

TEST_P(TdpAuditNpt, MmioIsAnErrorToTheHardware) {
  falsify(format().reserved, ReservedBits{});
  EXPECT_TRUE(complains(Class::kReserved, "MMIO entry is a translation"));
}

TEST_P(TdpAudit, GfnHasAMemslot) {
  falsify(slot().pages, 16);
  EXPECT_TRUE(complains(Class::kRmap, "leaf maps a gfn without a memslot"));
}

TEST_P(TdpAudit, MemslotStays) {
  falsify(slot().invalid, true);
  EXPECT_TRUE(complains(Class::kRmap, "leaf maps a memslot that is going"));
}

TEST_P(TdpAudit, LargeLeafIsInItsMemslot) {
  falsify(slot().pages, Gfn::of(kLarge).raw + 100);
  EXPECT_TRUE(complains(Class::kRmap, "large leaf reaches beyond its memslot"));
}

TEST_P(TdpAudit, WriteableLeafMayBeWritten) {
  falsify(entry(kPage), entry(kPage) & ~format().mmu_writable);
  EXPECT_TRUE(complains(Class::kWritable, "the software bits of a leaf contradict its W"));
}

TEST_P(TdpAudit, LeafThatMayBeWrittenIsTheHosts) {
  falsify(entry(kPage), entry(kPage) & ~format().host_writable & ~format().write);
  EXPECT_TRUE(complains(Class::kWritable, "the software bits of a leaf contradict its W"));
}

TEST_P(TdpAudit, LeafHasItsMemoryTypeOrUser) {
  falsify(entry(kPage), entry(kPage) & ~format().leaf);
  EXPECT_TRUE(complains(Class::kContent, "leaf lacks what every leaf has"));
}

using TdpAuditEpt = TdpAudit;
INSTANTIATE_TEST_SUITE_P(, TdpAuditEpt, ::testing::ValuesIn(machines(has_ept)), tdp_name);

TEST_P(TdpAuditEpt, HiddenLeaf) {
  falsify(entry(kPage), entry(kPage) & ~format().hardware());
  if (GetParam().ad)
    EXPECT_TRUE(complains(Class::kRole, "leaf is hidden although the hardware sets A"));
  EXPECT_TRUE(complains(Class::kContent, "hidden leaf has lost its rights"));
}

TEST_P(TdpAuditEpt, SavedRightsAreOfHiddenLeaves) {
  falsify(entry(kPage), tdp::SavedRx::put(entry(kPage), 1));
  EXPECT_TRUE(complains(Class::kRole, "leaf has rights saved that it has"));
}

TEST_P(TdpAuditEpt, LeafCanBeRead) {
  falsify(entry(kPage), entry(kPage) & ~(format().read | format().write));
  EXPECT_TRUE(complains(Class::kContent, "leaf that nobody may read"));
}

TEST_P(TdpAudit, LargeLeafIsNotExecuted) {
  falsify(vm().config.options.nx_huge_pages, true);
  EXPECT_TRUE(complains(Class::kWritable, "large leaf may be executed"));
}

// ---- frames

TEST_P(TdpAudit, RangeThatIsInvalidatedIsEmpty) {
  const Hva last = kTdpMemory + kLarge.raw + 511 * kPageSize;
  falsify(vm().notifier.in_progress, 1);
  falsify(vm().notifier.start, last);
  falsify(vm().notifier.end, last + 1);
  EXPECT_TRUE(complains(Class::kNotifier, "leaf inside a range that is being invalidated"));
}

TEST_P(TdpAudit, FrameBacksTheGfn) {
  falsify(host(kPage).pfn, Pfn{0x77});
  EXPECT_TRUE(complains(Class::kNotifier, "leaf maps a frame that does not back its gfn"));
}

TEST_P(TdpAudit, FrameIsThere) {
  falsify(host(kPage).kind, FrameLookup::Kind::kNoFrame);
  EXPECT_TRUE(complains(Class::kNotifier, "leaf maps a frame that does not back its gfn"));
}

TEST_P(TdpAudit, FrameThatIsWrittenIsWritable) {
  falsify(host(kPage).writable, false);
  EXPECT_TRUE(
      complains(Class::kNotifier, "writable leaf over a frame that the host lets be read only"));
}

TEST_P(TdpAudit, LargeLeafHasALargeHostPage) {
  falsify(host(kLarge).host_level, 1);
  EXPECT_TRUE(complains(Class::kNotifier, "large leaf over smaller host pages"));
}

// ---- what may be written

TEST_P(TdpAudit, ReadOnlySlotIsNotWritten) {
  falsify(slot().read_only, true);
  EXPECT_TRUE(complains(Class::kWritable, "writable leaf in a read-only slot"));
}

TEST_P(TdpAudit, LargeLeafIsWhereItMayBe) {
  falsify(slot().large(Gfn::of(kLarge), 2).disallow, 1);
  EXPECT_TRUE(complains(Class::kWritable, "large leaf where none may be"));
}

TEST_P(TdpAudit, WhatIsWrittenIsLogged) {
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  g_.write(kPage);
  g_.read(kPage + 0x1'0000);  // an exit: the hardware's log is empty
  u64& word = slot().arrays.dirty[Gfn::of(kPage).raw / 64];
  falsify(word, 0);
  EXPECT_TRUE(complains(Class::kDirty, "writable leaf whose page is not in the dirty log"));
}

TEST_P(TdpAudit, LargePageThatIsWrittenIsLoggedInAllItsParts) {
  u64 log[TdpGuest::kPages / 64];
  std::memset(log, 0xff, sizeof log);
  falsify(slot().arrays.dirty, log);
  falsify(slot().log_dirty, true);
  EXPECT_FALSE(complains(Class::kDirty, "writable leaf whose page is not in the dirty log"));
  log[Gfn::of(kLarge).raw / 64 + 7] = ~bit(63);
  EXPECT_TRUE(complains(Class::kDirty, "writable leaf whose page is not in the dirty log"));
}

// ---- private memory

class TdpAuditPrivate : public TdpAudit {};
INSTANTIATE_TEST_SUITE_P(, TdpAuditPrivate, ::testing::ValuesIn(machines(has_ept)), tdp_name);

TEST_P(TdpAuditPrivate, NotesAndKindsFollowTheRanges) {
  VmConfig c = config();
  c.shared_bit = kSharedBit;
  TdpGuest g(GetParam(), c);
  g.back_large(kLarge, 2);
  g.read(kLarge + kSharedBit);
  ASSERT_TRUE(g.state().tdp.private_ranges.set(Gfn::of(kLarge) + 3, 1, true));
  Findings found;
  g.vm().audit(found);
  ASSERT_EQ(found.all.size(), 2u);
  EXPECT_STREQ(found.all[0].what, "leaf maps private memory as shared, or the reverse");
  EXPECT_STREQ(found.all[1].what, "the note of private and shared memory differs from a recount");
  ASSERT_TRUE(g.state().tdp.private_ranges.set(Gfn::of(kLarge) + 3, 1, false));
}

TEST_P(TdpAuditPrivate, MirrorAndModuleAreInStep) {
  VmConfig c = config();
  c.shared_bit = kSharedBit;
  c.external_private = true;
  TdpGuest g(GetParam(), c);
  ASSERT_EQ(g.vm().set_private(Gfn::of(kPage), 1, true), Status::kOk);
  g.read(kPage);
  TdpVm& tdp = g.state().tdp;
  Ref upper{g.state().vcpu[0].tdp.private_root, 0};
  while (upper.level() > 2) upper = {upper.child(), 0};
  upper.index = tdp::index_at(Gfn::of(kPage), 2);
  const Ref leaf{upper.child(), tdp::index_at(Gfn::of(kPage), 1)};
  const auto says = [&](const char* what) {
    Findings found;
    g.vm().audit(found);
    for (const AuditFinding& f : found.all)
      if (std::string(what) == f.what) return true;
    return false;
  };
  const auto with = [&](auto& fact, auto value, const char* what) {
    const auto was = fact;
    fact = value;
    EXPECT_TRUE(says(what)) << what;
    fact = was;
  };
  with(tdp.external_leaves, u64{2}, "a module's leaves differ from a recount");
  with(*leaf.word(), leaf.load() & ~tdp.format.write, "leaf of a module that lacks a right");
  with(upper.child()->external, Hpa{}, "a table that a mirror has, and no other, for its module");
  with(*upper.word(), (leaf.load() & ~bits(12, 20)) | tdp::kLarge, "large leaf of a module");
  g.audit();
}

}  // namespace
}  // namespace mmu::testing
