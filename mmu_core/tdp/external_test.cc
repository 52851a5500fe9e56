#include "mmu_core/tdp/external.h"

#include <gtest/gtest.h>

#include "mmu_core/tdp/breather.h"
#include "mmu_core/tdp/change.h"
#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using Kind = TdpOutcome::Kind;

constexpr Gpa kPage{0x40'3000}, kOther{0x60'5000}, kLarge{0x80'0000}, kElsewhere{0x8000'0000};

class TdpExternal : public ::testing::TestWithParam<TdpMachine> {
 protected:
  TdpExternal() { EXPECT_EQ(set(kPage, 1, true), Status::kOk); }
  static VmConfig config() {
    VmConfig c = GetParam().config();
    c.vcpus = 2;
    c.shared_bit = kSharedBit;
    c.external_private = true;
    return c;
  }
  Status set(Gpa gpa, u64 pages, bool is_private) {
    const Status s = g_.vm().set_private(Gfn::of(gpa), pages, is_private);
    g_.audit();
    return s;
  }
  ExternalModule& module() { return g_.platform.module; }
  TdpGuest g_{GetParam(), config()};
};
INSTANTIATE_TEST_SUITE_P(, TdpExternal, ::testing::ValuesIn(machines(has_ept)), tdp_name);

TEST_P(TdpExternal, ModuleGetsPathAndPage) {
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
  EXPECT_EQ(module().pages(), 1u);
  EXPECT_EQ(module().tables(), GetParam().levels - 1u);
  EXPECT_EQ(g_.write(kPage, 5).faults, 0u) << "with all rights at once";
  EXPECT_EQ(g_.fetch(kPage, 1).faults, 0u) << "for all vCPUs";
}

TEST_P(TdpExternal, SharedMemoryIsNoneOfItsBusiness) {
  g_.write(shared(kOther));
  EXPECT_EQ(module().tables(), 0u);
  EXPECT_NE(g_.cpu().enter().tdp_pointer, 0u);
}

TEST_P(TdpExternal, BusyModuleMakesTheFaultTryAgain) {
  module().busy = 3;  // for a table
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.events(TdpEvent::kExternalBusy), 3u);
  ASSERT_EQ(set(kPage, 1, false), Status::kOk);
  ASSERT_EQ(set(kPage, 1, true), Status::kOk);
  module().busy = 2;  // for a page
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.events(TdpEvent::kExternalBusy), 5u);
  EXPECT_EQ(module().refused, 5u);
}

TEST_P(TdpExternal, EntryIsFrozenWhileTheModuleWorks) {
  unsigned frozen = 0;
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kFrozen || frozen++) return;
    g_.platform.running = 1;
    TdpFault fault;
    fault.gpa = kPage;
    fault.read = fault.is_private = true;
    g_.platform.on_yield = nullptr;
    g_.cpu(1).enter();
    EXPECT_EQ(g_.cpu(1).handle_tdp_fault(fault).kind, FaultResult::Kind::kRetry);
    g_.platform.running = 0;
  };
  g_.cpu(1).enter();
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
  EXPECT_EQ(frozen, 1u);
  EXPECT_GE(g_.events(TdpEvent::kFrozenSeen), 1u);
}

TEST_P(TdpExternal, LargeHostPageIsMappedSmall) {
  g_.back_large(kLarge, 2);
  ASSERT_EQ(set(kLarge, 512, true), Status::kOk);
  EXPECT_EQ(g_.read(kLarge), g_.reaches(kLarge));
  EXPECT_EQ(module().pages(), 1u);
}

TEST_P(TdpExternal, ConversionTakesThePageBack) {
  g_.write(kPage, 5);
  ASSERT_EQ(set(kPage, 1, false), Status::kOk);
  EXPECT_EQ(module().pages(), 0u);
  EXPECT_EQ(g_.read(shared(kPage)).value, 5u);
  EXPECT_GE(g_.events(TdpEvent::kExternalGone), 1u);
}

TEST_P(TdpExternal, HostTakesThePageBack) {
  g_.read(kPage);
  g_.vm().notifier_begin(hva_of(kPage), hva_of(kPage) + kPageSize);
  EXPECT_EQ(module().pages(), 0u);
  g_.platform.migrate(hva_of(kPage));
  g_.vm().notifier_end(hva_of(kPage), hva_of(kPage) + kPageSize);
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
}

TEST_P(TdpExternal, DeletedSlotGoesWithItsPages) {
  ASSERT_EQ(g_.set(g_.slot(1, Gfn::of(kElsewhere), 16, hva_of(kElsewhere))), Status::kOk);
  ASSERT_EQ(set(kElsewhere, 16, true), Status::kOk);
  g_.read(kPage);
  g_.read(kElsewhere);
  ASSERT_EQ(module().pages(), 2u);
  ASSERT_EQ(g_.remove(1), Status::kOk);
  EXPECT_EQ(module().pages(), 1u) << "and no other";
  EXPECT_EQ(g_.read(kElsewhere), ended(Kind::kMmio));
  EXPECT_EQ(g_.read(kPage).faults, 0u);
}

TEST_P(TdpExternal, ZapAllLeavesWhatTheModuleCouldNotMakeAnew) {
  g_.read(kPage);
  g_.write(shared(kOther));
  g_.vm().zap_all();
  EXPECT_EQ(g_.read(kPage).faults, 0u);
  EXPECT_NE(g_.read(shared(kOther)).faults, 0u);
}

TEST_P(TdpExternal, AgeSeesNothing) {
  g_.write(kPage);
  EXPECT_FALSE(g_.vm().age(hva_of(kPage), hva_of(kPage) + kPageSize, true));
  g_.audit();
  EXPECT_EQ(g_.write(kPage).faults, 0u);
}

// What ends the log of a slot collapses what is shared, and nothing else.
TEST_P(TdpExternal, CollapseLeavesItAlone) {
  g_.back_large(kLarge, 2);
  ASSERT_EQ(set(kLarge, 512, true), Status::kOk);
  g_.read(kLarge);
  ASSERT_EQ(set(kLarge, 512, false), Status::kOk);
  ASSERT_EQ(set(kPage, 1, false), Status::kOk);
  const std::size_t tables = module().tables();
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  g_.write(shared(kLarge));
  EXPECT_EQ(g_.take_log(), std::vector{Gfn::of(kLarge)});
  ASSERT_EQ(g_.set_flags(0, false, false), Status::kOk);
  EXPECT_EQ(module().tables(), tables);
}

TEST_P(TdpExternal, FrameThatMayNotBeWrittenIsTheHostsToMend) {
  g_.platform.host_page(hva_of(kPage)).writable = false;
  EXPECT_EQ(g_.read(kPage), ended(Kind::kMemoryFault));
  g_.platform.host_page(hva_of(kPage)).writable = true;
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
}

TEST_P(TdpExternal, PrivateGpaWithoutMemoryHasNoEntry) {
  ASSERT_EQ(set(kElsewhere, 1, true), Status::kOk);
  EXPECT_EQ(g_.read(kElsewhere), ended(Kind::kMmio));
  EXPECT_EQ(g_.events(TdpEvent::kMmioMake), 0u);
}

// ---- what a module's memory cannot be

TEST_P(TdpExternal, PrivateMemoryIsNeitherReadOnlyNorLogged) {
  EXPECT_EQ(g_.set_flags(0, true, false), Status::kInvalid);
  EXPECT_EQ(g_.set_flags(0, false, true), Status::kInvalid);
  ASSERT_EQ(set(kElsewhere + 8 * kPageSize, 1, true), Status::kOk);
  MemslotRequest r = g_.slot(1, Gfn::of(kElsewhere), 16, hva_of(kElsewhere));
  r.read_only = true;
  EXPECT_EQ(g_.set(r), Status::kInvalid);
  r.pages = 8;
  EXPECT_EQ(g_.set(r), Status::kOk);
  EXPECT_EQ(set(kElsewhere, 1, true), Status::kInvalid);
  r.kind = MemslotRequest::Kind::kMove;
  r.gfn = Gfn::of(kElsewhere) + 4;
  EXPECT_EQ(g_.set(r), Status::kInvalid);
  r.gfn = Gfn::of(kElsewhere) + 9;
  EXPECT_EQ(g_.set(r), Status::kOk);
  EXPECT_EQ(g_.remove(1), Status::kOk);
  r = g_.slot(1, Gfn::of(kElsewhere), 16, hva_of(kElsewhere));
  r.space = 1;
  r.read_only = true;
  EXPECT_EQ(g_.set(r), Status::kOk) << "nothing is private in SMM";
}

TEST_P(TdpExternal, PrivateMemoryIsNotTracked) {
  EXPECT_EQ(g_.vm().track_writes(0, Gfn::of(kPage)), Status::kInvalid);
  ASSERT_EQ(g_.vm().track_writes(0, Gfn::of(kOther)), Status::kOk);
  EXPECT_EQ(set(kOther, 1, true), Status::kInvalid);
  EXPECT_EQ(set(Gpa{0}, TdpGuest::kPages, true), Status::kInvalid);
  g_.read(kPage);
  EXPECT_EQ(g_.write(shared(kOther)), ended(Kind::kEmulate));
  ASSERT_TRUE(g_.vm().untrack_writes(0, Gfn::of(kOther)));
  EXPECT_EQ(set(kOther, 1, true), Status::kOk);
}

TEST_P(TdpExternal, WithoutASharedBitThereIsNone) {
  VmConfig c = config();
  c.shared_bit = 0;
  TdpGuest g(GetParam(), c);
  EXPECT_EQ(g.set_flags(0, true, false), Status::kOk);
}

// ---- memory, and what the core must not do

TEST_P(TdpExternal, NoTableForTheModule) {
  g_.read(shared(kOther));  // the stock of the core's own is full again after the next fault
  for (u64 after = 0; after < 12; ++after) {
    g_.platform.table_source = LimitedPages(after);
    const TdpOutcome o = g_.read(kPage);
    g_.platform.table_source = LimitedPages();
    if (o.kind == Kind::kOk) break;
    EXPECT_EQ(o, ended(Kind::kNoMemory)) << after;
  }
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
}

using TdpExternalDeathTest = TdpExternal;
INSTANTIATE_TEST_SUITE_P(, TdpExternalDeathTest,
                         ::testing::ValuesIn(kTdpMachines, kTdpMachines + 1), tdp_name);

TEST_P(TdpExternalDeathTest, EntryIsNotChangedInPlace) {
  g_.read(kPage);
  VmState& vm = g_.state();
  tdp::Iterator it(*vm.vcpu[0].tdp.private_root, Gfn::of(kPage), Gfn::of(kPage));
  while (it.level() > 1) it.next();
  tdp::Removal removal(vm);
  const tdp::Ref ref = it.ref();
  const u64 e = ref.load();
  EXPECT_DEATH(tdp::try_change(vm, ref, e, e & ~vm.tdp.format.write, removal),
               "a mirrored entry is changed in place");
  EXPECT_DEATH(tdp::clear_bits(vm, ref, vm.tdp.format.write, removal),
               "a mirrored entry is changed in place");
  EXPECT_DEATH(tdp::external::set_leaf(vm, {ref.table->parent, 0}, e),
               "a module is given a large leaf");
}

}  // namespace
}  // namespace mmu::testing
