// What the host does to the tables: memslots, the notifier, the dirty log, ageing, whole vCPUs.

#include <gtest/gtest.h>

#include "mmu_core/testing/tdp_guest.h"

namespace mmu::testing {
namespace {

using Kind = TdpOutcome::Kind;

constexpr Gpa kPage{0x40'3000}, kOther{0x60'5000}, kElsewhere{0x8000'0000}, kLarge{0x80'0000};

class TdpEvents : public ::testing::TestWithParam<TdpMachine> {
 protected:
  bool young(Gpa gpa, bool clear) {
    const bool is = g_.vm().age(hva_of(gpa), hva_of(gpa) + kPageSize, clear);
    g_.audit();
    return is;
  }
  TdpGuest g_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(, TdpEvents, ::testing::ValuesIn(kTdpMachines), tdp_name);

// ---- memslots

TEST_P(TdpEvents, DeletedSlotIsNoMemory) {
  g_.read(kPage);
  ASSERT_EQ(g_.remove(0), Status::kOk);
  EXPECT_EQ(g_.read(kPage), ended(Kind::kMmio));
}

TEST_P(TdpEvents, DeletedSlotLeavesTheOthers) {
  ASSERT_EQ(g_.set(g_.slot(1, Gfn::of(kElsewhere), 16, hva_of(kElsewhere))), Status::kOk);
  g_.read(kElsewhere);
  ASSERT_EQ(g_.remove(0), Status::kOk);
  EXPECT_EQ(g_.read(kElsewhere).kind, Kind::kOk);
}

TEST_P(TdpEvents, DeleteFlushesBeforeTheOldRootIsFreed) {
  g_.read(kPage);
  g_.platform.flushes.clear();
  const Hpa old = g_.cpu().enter().root;
  ASSERT_EQ(g_.remove(0), Status::kOk);
  EXPECT_FALSE(g_.platform.flushes.empty());
  EXPECT_NE(g_.platform.table_at(old), nullptr) << "the vCPU has it still";
  EXPECT_NE(g_.cpu().enter().root, old);
  EXPECT_EQ(g_.platform.table_at(old), nullptr);
}

// What an MMIO entry holds of the generation comes round.
TEST_P(TdpEvents, MmioEntryDoesNotComeToLifeWhenTheGenerationWraps) {
  constexpr u64 kUpdates = (u64{1} << kMmioGenerationBits) / kAddressSpaces;
  ASSERT_EQ(g_.read(kElsewhere), ended(Kind::kMmio));
  MemslotRequest flags;
  flags.kind = MemslotRequest::Kind::kFlags;
  for (u64 i = 1; i < kUpdates; ++i) ASSERT_EQ(g_.vm().set_memslot(flags), Status::kOk);
  ASSERT_EQ(g_.set(g_.slot(1, Gfn::of(kElsewhere), 1, hva_of(kElsewhere))), Status::kOk);
  EXPECT_EQ(g_.read(kElsewhere).kind, Kind::kOk);
}

TEST_P(TdpEvents, MovedSlotIsElsewhere) {
  ASSERT_EQ(g_.set(g_.slot(1, Gfn::of(kElsewhere), 16, hva_of(kElsewhere))), Status::kOk);
  g_.write(kElsewhere, 0x55);
  MemslotRequest r;
  r.kind = MemslotRequest::Kind::kMove;
  r.id = 1;
  r.gfn = Gfn::of(kElsewhere) + 64;
  ASSERT_EQ(g_.set(r), Status::kOk);
  EXPECT_EQ(g_.read(kElsewhere), ended(Kind::kMmio));
  EXPECT_EQ(g_.read(kElsewhere + 64 * kPageSize).value, 0x55u);
}

TEST_P(TdpEvents, SlotBeyondWhatTheTablesReachIsRefused) {
  const u8 bits = GetParam().levels == 3 ? 32 : GetParam().levels == 4 ? 48 : 57;
  VmConfig c = GetParam().config();
  c.caps.maxphyaddr = c.caps.host_maxphyaddr = 52;
  TdpGuest g(GetParam(), c);
  const Gfn beyond{(u64{1} << (bits - 12)) - 8};
  if (bits < 52) {
    EXPECT_EQ(g.set(g.slot(1, beyond, 16, hva_of(kElsewhere))), Status::kInvalid);
    EXPECT_EQ(g.set(g.slot(1, beyond, 8, hva_of(kElsewhere))), Status::kOk);
    EXPECT_EQ(g.read(beyond.base()).kind, Kind::kOk);
  } else {
    EXPECT_EQ(g.set(g.slot(1, beyond, 8, hva_of(kElsewhere))), Status::kInvalid);
  }
}

TEST_P(TdpEvents, FaultWhileASlotGoesIsTriedAgain) {
  bool once = true;
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kSlotSwapped || !once) return;
    once = false;
    TdpFault fault;
    fault.gpa = kPage;
    fault.read = true;
    g_.platform.running = 1;
    EXPECT_EQ(g_.cpu().handle_tdp_fault(fault).kind, FaultResult::Kind::kRetry);
    g_.platform.running = 0;
  };
  ASSERT_EQ(g_.remove(0), Status::kOk);
  EXPECT_FALSE(once);
}

TEST_P(TdpEvents, FaultThatASlotUpdateOvertakesIsTriedAgain) {
  bool once = true;
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    EXPECT_EQ(g_.remove(0), Status::kOk);
  };
  EXPECT_EQ(g_.read(kPage), ended(Kind::kMmio));
  EXPECT_FALSE(once);
}

// A slot that is changed without being taken away leaves the root as it is.
TEST_P(TdpEvents, FaultThatALogOvertakesIsTriedAgain) {
  bool once = true;
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    EXPECT_EQ(g_.set_flags(0, false, true), Status::kOk);
  };
  EXPECT_EQ(g_.write(kPage), g_.reaches(kPage));
  EXPECT_FALSE(once);
  EXPECT_EQ(g_.take_log(), (std::vector{Gfn::of(kPage)}));
}

TEST_P(TdpEvents, MmioThatASlotOvertakesIsMemory) {
  bool once = true;
  g_.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kAfterFrame || !once) return;
    once = false;
    EXPECT_EQ(g_.set(g_.slot(1, Gfn::of(kElsewhere), 16, hva_of(kElsewhere))), Status::kOk);
  };
  EXPECT_EQ(g_.read(kElsewhere).kind, Kind::kOk);
  EXPECT_FALSE(once);
}

TEST_P(TdpEvents, ZapAllLeavesNothing) {
  g_.read(kPage);
  g_.read(kOther);
  g_.vm().zap_all();
  g_.audit();
  EXPECT_EQ(g_.state().tdp.tables, 0u);
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
}

TEST_P(TdpEvents, ZapAllGoesOnAfterEachYield) {
  for (u64 i = 0; i < 64; ++i) g_.read(Gpa{i * 0x4'0000});
  unsigned yields = 0;
  // While it is under way an invalid root is not empty: only the end is audited.
  g_.platform.on_yield = [&](YieldPoint point, u32) { yields += point == YieldPoint::kMidWalk; };
  g_.vm().zap_all();
  EXPECT_GT(yields, 2u);
  g_.audit();
  EXPECT_EQ(g_.state().tdp.tables, 0u);
}

// ---- notifier

// Hardware that has not been entered since walks the invalid root while it is being emptied.
TEST_P(TdpEvents, HostTakesAFrameFromAnInvalidRoot) {
  VmConfig c = GetParam().config();
  c.vcpus = 2;
  TdpGuest g(GetParam(), c, u64{1} << 18);
  const Gpa last{0x3f00'0000};
  g.read(kPage);
  g.read(last);
  const EntryState old = g.cpu().enter();
  bool met = false;
  g.platform.on_yield = [&](YieldPoint point, u32) {
    if (point != YieldPoint::kMidWalk || met || g.platform.running) return;
    met = true;
    g.platform.running = 1;
    EXPECT_TRUE(g.walk(old, last).present);
    g.vm().notifier_begin(hva_of(last), hva_of(last) + kPageSize);
    EXPECT_FALSE(g.walk(old, last).present);
    g.vm().notifier_end(hva_of(last), hva_of(last) + kPageSize);
    g.platform.running = 0;
  };
  g.vm().zap_all();
  EXPECT_TRUE(met);
}

TEST_P(TdpEvents, InvalidatedRangeIsGone) {
  g_.read(kPage);
  g_.read(kOther);
  g_.platform.flushes.clear();
  g_.vm().notifier_begin(hva_of(kPage), hva_of(kPage) + kPageSize);
  EXPECT_FALSE(g_.walk(kPage).present);
  EXPECT_TRUE(g_.walk(kOther).present);
  ASSERT_EQ(g_.platform.flushes.size(), 1u);
  EXPECT_EQ(g_.platform.flushes[0].kind, FlushRequest::Kind::kRange);
  EXPECT_EQ(g_.platform.flushes[0].gfn, Gfn::of(kPage));
  EXPECT_EQ(g_.platform.flushes[0].pages, 1u);
  g_.vm().notifier_end(hva_of(kPage), hva_of(kPage) + kPageSize);
}

TEST_P(TdpEvents, PartOfALargePageTakesItWhole) {
  g_.back_large(kLarge, 2);
  g_.read(kLarge);
  g_.platform.flushes.clear();
  g_.invalidate(kLarge + 0x5000);
  EXPECT_FALSE(g_.walk(kLarge).present);
  ASSERT_EQ(g_.platform.flushes.size(), 1u);
  EXPECT_EQ(g_.platform.flushes[0].gfn, Gfn::of(kLarge));
  EXPECT_EQ(g_.platform.flushes[0].pages, 512u);
}

TEST_P(TdpEvents, InvalidatedRangeThatIsNotMappedNeedsNoFlush) {
  g_.read(kPage);
  g_.platform.flushes.clear();
  g_.invalidate(kOther);
  EXPECT_TRUE(g_.platform.flushes.empty());
}

TEST_P(TdpEvents, EverySlotThatSharesTheHvaLosesIt) {
  ASSERT_EQ(g_.set(g_.slot(1, Gfn::of(kElsewhere), 16, hva_of(kPage))), Status::kOk);
  g_.read(kPage);
  g_.read(kElsewhere);
  g_.invalidate(kPage);
  EXPECT_FALSE(g_.walk(kPage).present);
  EXPECT_FALSE(g_.walk(kElsewhere).present);
}

// ---- dirty log by write protection

TEST_P(TdpEvents, LogHasWhatWasWritten) {
  g_.write(kPage);
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  EXPECT_TRUE(g_.take_log().empty());
  g_.read(kOther);
  EXPECT_TRUE(g_.take_log().empty());
  g_.write(kPage);
  g_.write(kOther);
  EXPECT_EQ(g_.take_log(), (std::vector{Gfn::of(kPage), Gfn::of(kOther)}));
  EXPECT_TRUE(g_.take_log().empty());
  g_.write(kOther);
  EXPECT_EQ(g_.take_log(), (std::vector{Gfn::of(kOther)}));
}

TEST_P(TdpEvents, LogOfALargePageHasTheSmallOneThatWasWritten) {
  g_.back_large(kLarge, 2);
  g_.write(kLarge);
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  g_.write(kLarge + 0x7000);
  EXPECT_EQ(g_.take_log(), (std::vector{Gfn::of(kLarge) + 7}));
  g_.write(kLarge + 0x8000);
  EXPECT_EQ(g_.take_log(), (std::vector{Gfn::of(kLarge) + 8}));
}

TEST_P(TdpEvents, EmulatedStoreIsLogged) {
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  EXPECT_EQ(g_.cpu().write_physical(kPage, 8, 5).kind, EmulateResult::Kind::kDone);
  EXPECT_EQ(g_.take_log(), (std::vector{Gfn::of(kPage)}));
}

TEST_P(TdpEvents, LogIsTakenAfterTheFlush) {
  ASSERT_EQ(g_.set_flags(0, false, true), Status::kOk);
  g_.write(kPage);
  g_.platform.flushes.clear();
  g_.take_log();
  EXPECT_FALSE(g_.platform.flushes.empty());
}

// ---- age

TEST_P(TdpEvents, PageInUseIsYoungUntilItIsCleared) {
  g_.write(kPage, 0x99);
  EXPECT_FALSE(young(kOther, true));
  EXPECT_TRUE(young(kPage, false));
  EXPECT_TRUE(young(kPage, true));
  EXPECT_FALSE(young(kPage, false));
  EXPECT_EQ(g_.read(kPage).value, 0x99u);
  EXPECT_TRUE(young(kPage, false));
  EXPECT_EQ(g_.write(kPage), g_.reaches(kPage));
  EXPECT_EQ(g_.fetch(kPage), g_.reaches(kPage));
}

TEST_P(TdpEvents, LargePageIsYoungInAllItsParts) {
  g_.back_large(kLarge, 2);
  g_.read(kLarge);
  EXPECT_TRUE(young(kLarge + 0x1f'f000, true));
  EXPECT_FALSE(young(kLarge, false));
}

// ---- vCPUs

TEST_P(TdpEvents, SmmHasMemoryOfItsOwn) {
  g_.write(kPage, 0x11);
  EXPECT_TRUE(g_.cpu().set_smm(true));
  g_.audit();
  EXPECT_EQ(g_.read(kPage), ended(Kind::kMmio));
  MemslotRequest r = g_.slot(0, Gfn{0}, 4096, hva_of(kElsewhere));
  r.space = 1;
  ASSERT_EQ(g_.set(r), Status::kOk);
  EXPECT_EQ(g_.read(kPage).value, 0u);
  g_.write(kPage, 0x22);
  EXPECT_TRUE(g_.cpu().set_smm(false));
  EXPECT_EQ(g_.read(kPage).value, 0x11u);
  EXPECT_EQ(g_.read(kPage), g_.reaches(kPage));
}

TEST_P(TdpEvents, VcpuComesAnew) {
  g_.write(kPage, 0x11);
  EXPECT_EQ(g_.vm().recreate_vcpu(0, Sregs{cr0::kPe | cr0::kEt, 0, 0, 0}), Status::kOk);
  g_.audit();
  EXPECT_EQ(g_.read(kPage).value, 0x11u);
  g_.cpu().init(true);
  g_.audit();
  EXPECT_EQ(g_.read(kPage).value, 0x11u);
}

TEST_P(TdpEvents, RegistersReachNoMmu) {
  g_.write(kPage);
  const EntryState before = g_.cpu().enter();
  const u64 frames = g_.platform.tables_in_use();
  g_.platform.flushes.clear();
  Vcpu& cpu = g_.cpu();
  EXPECT_TRUE(cpu.set_cr3(0x7000));
  EXPECT_TRUE(cpu.set_cr4(cpu.cr4() | cr4::kPge | cr4::kSmep));
  EXPECT_TRUE(cpu.set_cr4(cpu.cr4() & ~cr4::kPge));
  EXPECT_TRUE(cpu.set_cr0(cpu.cr0() & ~cr0::kWp));
  EXPECT_TRUE(cpu.set_efer(cpu.efer() & ~efer::kNxe));
  EXPECT_FALSE(cpu.set_cr0(cpu.cr0() & ~cr0::kPe)) << "#GP as ever";
  EXPECT_FALSE(cpu.set_cr3(u64{1} << 50));
  cpu.invlpg(Gva{0x1000});
  EXPECT_TRUE(cpu.invpcid(2, 0, Gva{}));
  EXPECT_FALSE(cpu.invpcid(4, 0, Gva{}));
  EXPECT_TRUE(g_.platform.flushes.empty());
  EXPECT_EQ(cpu.enter().root, before.root);
  EXPECT_EQ(g_.platform.tables_in_use(), frames);
  EXPECT_EQ(cpu.enter().guest_cr3, 0x7000u);
  EXPECT_EQ(g_.read(kPage).faults, 0u);
}

TEST_P(TdpEvents, EmulationNeedsNoTables) {
  const Gva gva{0x5000};
  EXPECT_TRUE(g_.cpu().set_cr3(0x1'0000));
  EXPECT_TRUE(g_.cpu().set_sregs(Sregs{cr0::kPe | cr0::kEt, 0, 0, 0}));
  EXPECT_EQ(g_.cpu().emulate(gva, Access::kWrite, 8, 0x1234, false).kind,
            EmulateResult::Kind::kDone);
  EXPECT_EQ(g_.cpu().emulate(gva, Access::kRead, 8, 0, false).value, 0x1234u);
  EXPECT_EQ(g_.read(Gpa{0x5000}).value, 0x1234u);
  EXPECT_EQ(g_.cpu().emulate(Gva{kElsewhere.raw}, Access::kRead, 8, 0, false).kind,
            EmulateResult::Kind::kMmio);
}

}  // namespace
}  // namespace mmu::testing
