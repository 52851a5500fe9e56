// What may be stale in two dimensions, and until when.

#include <gtest/gtest.h>

#include "oracle/nested_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kPage = NestedBed::kPage, kFrame = NestedBed::kFrame,
                        kOther = NestedBed::kOther, kGva = NestedBed::kGva;
constexpr std::uint64_t kUsedEpt = kRwxWb | ept::kA | ept::kD;

// A guest that has read and written kGva, on EPT with flags or without, or on NPT.
class UsedBed : public NestedBed {
 public:
  explicit UsedBed(const Machine& machine, bool flags = true, unsigned vpid = 1,
                   std::uint64_t guest_leaf = kPage | kLeafUsed)
      : NestedBed(machine) {
    map_guest(guest_leaf);
    EXPECT_EQ(enter(flags, vpid), "ok");
    EXPECT_EQ(access_ok(AccessKind::kWrite, kGva), "ok");
  }
  explicit UsedBed(Nesting nesting, bool flags = true, unsigned vpid = 1)
      : UsedBed(bare_machine(nesting), flags, vpid) {}

  // The hypervisor moves kPage to another frame.
  void remap(std::uint64_t frame = kOther) {
    const std::uint64_t now = nested(kPage, 1);
    store_nested(kPage, 1, (now & ~pte::kAddressMask) | frame);
  }
  void change_guest_leaf(std::uint64_t leaf) { store_entry(kGva, 1, leaf); }
};

// And whose hypervisor then moved kPage, without an invalidation.
class RemappedBed : public UsedBed {
 public:
  explicit RemappedBed(Nesting nesting, bool flags = true) : UsedBed(nesting, flags) { remap(); }
};

TEST(EptStale, ARemappedPageMayBeSeenUntilInvept) {
  for (const bool flags : {true, false}) {
    RemappedBed bed(Nesting::kEpt, flags);
    EXPECT_EQ(bed.reads_at(kFrame), "ok");
    EXPECT_EQ(bed.reads_at(kOther), "ok");
    EXPECT_EQ(bed.reads_at(kFrame), "ok");
    EXPECT_EQ(bed.invept(1, (bed.eptp(flags) & ~pte::kAddressMask) | 0x1000), "ok");
    EXPECT_EQ(bed.reads_at(kFrame), "ok");  // another EP4TA's
    EXPECT_EQ(bed.invept(1, bed.eptp(flags)), "ok");
    EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/invept");
    EXPECT_EQ(bed.reads_at(kOther), "ok");
  }
}

TEST(EptStale, InveptOfType2DropsAll) {
  RemappedBed bed(Nesting::kEpt);
  EXPECT_EQ(bed.invept(2, 0), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/invept");
}

TEST(EptStale, AFailedInveptDropsNothing) {
  RemappedBed bed(Nesting::kEpt);
  EXPECT_EQ(bed.invept(1, bed.eptp() | 1, OutcomeKind::kVmFail), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
}

TEST(EptStale, InvvpidAndTheGuestsOwnFlushesKeepGuestPhysicalMappings) {
  RemappedBed bed(Nesting::kEpt);
  EXPECT_EQ(bed.invvpid(1, 1), "ok");
  EXPECT_EQ(says(bed.invlpg(kGva)), "ok");
  EXPECT_EQ(says(bed.mov(Reg::kCr3, kInitialCr3)), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
}

TEST(EptStale, RightsThatWereTakenAwayLastUntilInvept) {
  UsedBed bed(Nesting::kEpt);
  bed.store_nested(kPage, 1, kFrame | (kUsedEpt & ~ept::kW));
  EXPECT_EQ(bed.ends(AccessKind::kWrite, bed.at_frame(kFrame, AccessKind::kWrite)), "ok");
  EXPECT_EQ(bed.invept(1, bed.eptp()), "ok");
  EXPECT_EQ(bed.ends(AccessKind::kWrite, bed.at_frame(kFrame, AccessKind::kWrite)),
            "stale-after-flush/invept");
}

TEST(EptStale, AStoreNeedsDInWhatIsCached) {
  NestedBed bed(Nesting::kEpt);
  bed.map_guest();
  bed.enter();
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");  // D stays clear
  bed.store_nested(kPage, 1, kOther | kUsedEpt);
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.ends(AccessKind::kWrite, bed.at_frame(kFrame, AccessKind::kWrite)),
            "wrong-frame/fresh");
}

TEST(EptStale, AfterWideningOneViolationIsPermitted) {
  NestedBed bed(Nesting::kEpt);
  bed.put_nested(kPage, 1, kFrame | (kUsedEpt & ~ept::kW));
  bed.map_guest();
  bed.enter();
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  bed.store_nested(kPage, 1, kFrame | kUsedEpt);
  const Outcome spurious =
      bed.violation(eqx::kWrite | eqx::kReadable | eqx::kExecutable | eqx::kGvaValid | eqx::kFinal |
                        eqx::kGuestUser | eqx::kGuestWritable,
                    kPage, kGva);
  EXPECT_EQ(bed.ends(AccessKind::kWrite, spurious), "ok");
  EXPECT_EQ(bed.ends(AccessKind::kWrite, spurious), "stale-after-flush/tdp-stale");
  // With its present rights in the qualification there never was such a violation.
  EXPECT_EQ(bed.ends(AccessKind::kWrite,
                     bed.violation(spurious.qualification | eqx::kWritable, kPage, kGva)),
            "spurious-fault/fresh");
}

TEST(EptStale, AnotherLinearAddressMayFaultOnceMore) {
  NestedBed bed(Nesting::kEpt);
  bed.put_nested(kPage, 1, kFrame | (kUsedEpt & ~ept::kW));
  bed.map_guest();
  const std::uint64_t alias = kGva + 0x1000;
  bed.put(alias, 1, kPage | kLeafUsed);
  bed.enter();
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, alias), "ok");
  bed.store_nested(kPage, 1, kFrame | kUsedEpt);
  const std::uint64_t says = eqx::kWrite | eqx::kReadable | eqx::kExecutable | eqx::kGvaValid |
                             eqx::kFinal | eqx::kGuestUser | eqx::kGuestWritable;
  EXPECT_EQ(bed.ends(AccessKind::kWrite, bed.violation(says, kPage, kGva)), "ok");
  EXPECT_EQ(bed.ends(AccessKind::kWrite, bed.violation(says, kPage, alias), alias), "ok");
  EXPECT_EQ(bed.ends(AccessKind::kWrite, bed.violation(says, kPage, alias), alias),
            "stale-after-flush/tdp-stale");
}

TEST(EptStale, NothingIsCachedFromWhatIsNotPresentOrMisconfigured) {
  for (const std::uint64_t before : {std::uint64_t{0}, kFrame | ept::kR | ept::kW | 7u << 3}) {
    NestedBed bed(Nesting::kEpt);
    bed.put_nested(kPage, 1, before);
    bed.map_guest();
    bed.enter();
    EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
    const Outcome exit = bed.fresh(AccessKind::kRead, kGva);
    bed.store_nested(kPage, 1, kFrame | kRwxWb);
    EXPECT_EQ(bed.ends(AccessKind::kRead, exit), "spurious-fault/fresh");
  }
}

// With flags nothing is cached from an entry with A=0, so what was never used leaves nothing.
TEST(EptStale, NothingIsCachedWithAClear) {
  for (const bool flags : {true, false}) {
    NestedBed bed(Nesting::kEpt);
    bed.map_guest();
    bed.enter(flags);
    bed.store_nested(kPage, 1, kOther | kRwxWb);
    EXPECT_EQ(bed.reads_at(kFrame), flags ? "wrong-frame/fresh" : "ok");
  }
}

TEST(EptStale, FlagsClearedWithoutInveptNeedNotBeSetAgain) {
  UsedBed bed(Nesting::kEpt);
  bed.store_nested(kPage, 1, kFrame | kRwxWb);
  EXPECT_EQ(bed.access_ok(AccessKind::kWrite, kGva), "ok");
  const std::uint64_t at = bed.nested_at(kPage, 1);
  EXPECT_EQ(bed.spec.open_bits(at, 0), ept::kA | ept::kD);
  EXPECT_EQ(bed.invept(1, bed.eptp()), "ok");
  EXPECT_EQ(bed.access_ok(AccessKind::kWrite, kGva), "ok");
  EXPECT_EQ(bed.spec.open_bits(at, 0), 0u);
  EXPECT_EQ(bed.nested(kPage, 1), kFrame | kUsedEpt);
}

TEST(EptStale, WhatWasCachedWithoutFlagsServesWithThemUntilInvept) {
  UsedBed bed(Nesting::kEpt, false);
  EXPECT_EQ(bed.enter(true), "ok");
  EXPECT_EQ(bed.access_ok(AccessKind::kWrite, kGva), "ok");
  const std::uint64_t at = bed.nested_at(kPage, 1);
  EXPECT_EQ(bed.spec.open_bits(at, 0), ept::kA | ept::kD);
  bed.store_nested(kPage, 1, kOther | kRwxWb);
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.invept(1, bed.eptp()), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/invept");
}

// --- Combined mappings.

TEST(Combined, InvvpidByType) {
  struct Row {
    unsigned type, vpid;
    std::uint64_t gva;
    bool drops, drops_global;
  };
  const Row rows[] = {
      {0, 1, kGva, true, true},   {0, 1, kGva + 0x1000, false, false},
      {0, 2, kGva, false, false}, {1, 1, 0, true, true},
      {1, 2, 0, false, false},    {2, 0, 0, true, true},
      {3, 1, 0, true, false},     {3, 2, 0, false, false},
  };
  for (const bool global : {false, true}) {
    for (const Row& row : rows) {
      const std::uint64_t leaf = kLeafUsed | (global ? pte::kG : 0);
      NestedBed bed(Nesting::kEpt);
      bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
      bed.map_guest(kPage | leaf);
      EXPECT_EQ(says(bed.mov(Reg::kCr4, cr4::kPae | cr4::kPge)), "ok");
      bed.enter();
      EXPECT_EQ(bed.access_ok(AccessKind::kWrite, kGva), "ok");
      bed.store_entry(kGva, 1, (kPage + 0x1000) | leaf);
      EXPECT_EQ(bed.reads_at(kFrame), "ok");
      EXPECT_EQ(bed.invvpid(row.type, row.vpid, row.gva), "ok");
      const bool dropped = global ? row.drops_global : row.drops;
      EXPECT_EQ(bed.reads_at(kFrame), dropped ? "stale-after-flush/invvpid" : "ok")
          << "type " << row.type << " vpid " << row.vpid << " global " << global;
    }
  }
}

TEST(Combined, InveptDropsThemToo) {
  UsedBed bed(Nesting::kEpt);
  bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
  bed.change_guest_leaf((kPage + 0x1000) | kLeafUsed);
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.invept(1, bed.eptp()), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/invept");
}

TEST(Combined, TheGuestsInvalidationsDropThem) {
  for (const bool by_cr3 : {true, false}) {
    UsedBed bed(Nesting::kEpt);
    bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
    bed.change_guest_leaf((kPage + 0x1000) | kLeafUsed);
    EXPECT_EQ(says(by_cr3 ? bed.mov(Reg::kCr3, kInitialCr3) : bed.invlpg(kGva)), "ok");
    EXPECT_EQ(bed.reads_at(kFrame),
              by_cr3 ? "stale-after-flush/stale-8" : "stale-after-flush/stale-6");
  }
}

TEST(Combined, AreTaggedByVpidAndEp4ta) {
  UsedBed bed(Nesting::kEpt);
  bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
  bed.change_guest_leaf((kPage + 0x1000) | kLeafUsed);
  // Another VPID never had them.
  EXPECT_EQ(bed.enter(true, 2), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "wrong-frame/fresh");
  EXPECT_EQ(bed.enter(true, 1), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  // Nor another EP4TA, with the same entries.
  const std::uint64_t root = 0x17f000;
  bed.put_nested(0, 4, bed.nested(0, 4));
  bed.spec.write_word(root, bed.nested(0, 4));
  EXPECT_EQ(bed.enter((bed.eptp() & ~pte::kAddressMask) | root), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "wrong-frame/fresh");
}

TEST(Combined, GuestPhysicalMappingsAreSharedByVpids) {
  RemappedBed bed(Nesting::kEpt);
  EXPECT_EQ(bed.enter(true, 2), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
}

TEST(Combined, WithoutVpidsEntryAndExitDropThem) {
  UsedBed bed(Nesting::kEpt, true, 0);
  bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
  bed.change_guest_leaf((kPage + 0x1000) | kLeafUsed);
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.leave(), "ok");
  EXPECT_EQ(bed.enter(true, 0), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/vpid");
}

TEST(Combined, WithoutVpidsEveryExitDropsThem) {
  UsedBed bed(Nesting::kEpt, true, 0);
  bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
  bed.put(kGva + 0x2000, 1, (kPage + 0x3000) | kLeafUsed);
  bed.change_guest_leaf((kPage + 0x1000) | kLeafUsed);
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva + 0x2000), "ok");  // a violation
  EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/vpid");
}

TEST(Combined, WithVpidsEntryAndExitDropNothing) {
  UsedBed bed(Nesting::kEpt);
  bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
  bed.change_guest_leaf((kPage + 0x1000) | kLeafUsed);
  EXPECT_EQ(bed.leave(), "ok");
  EXPECT_EQ(bed.enter(), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
}

// A guest's table that moves in the second dimension: entries of the former frame may be cached.
TEST(Combined, AnEntryOfAFormerTableFrameMayBeUsed) {
  NestedBed bed(Nesting::kEpt);
  bed.map_guest();
  const std::uint64_t table = 0x605000;  // gpa of the guest's lowest table
  bed.put_nested(table, 1, bed.table(1) | kUsedEpt);
  bed.put(kGva, 2, table | kPwua);
  bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
  bed.enter();
  EXPECT_EQ(bed.access_ok(AccessKind::kWrite, kGva), "ok");
  bed.spec.write_word(0x180000 + (bed.at(kGva, 1) & 0xfff), (kPage + 0x1000) | kLeafUsed);
  bed.store_nested(table, 1, 0x180000 | kUsedEpt);
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.reads_at(kOther), "ok");
  EXPECT_EQ(bed.invept(2, 0), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/invept");
}

// What came into the former frame only after its EPT entry had left is never seen... unless that
// entry is still cached; what left before the EPT entry came never is.
TEST(Combined, AnEntryThatLeftBeforeItsFrameCameIsNotUsed) {
  NestedBed bed(Nesting::kEpt);
  bed.map_guest();
  const std::uint64_t table = 0x605000, slot = bed.at(kGva, 1) & 0xfff;
  bed.put_nested(kPage + 0x1000, 1, kOther | kUsedEpt);
  bed.put_nested(table, 1, bed.table(1) | kUsedEpt);
  bed.put(kGva, 2, table | kPwua);
  bed.enter();
  // Frame 0x180000 held an entry that is overwritten before the frame becomes the table.
  bed.write(0x180000 + slot, (kPage + 0x1000) | kLeafUsed);
  bed.write(0x180000 + slot, kPage | kLeafUsed);
  bed.store_nested(table, 1, 0x180000 | kUsedEpt);
  EXPECT_EQ(bed.reads_at(kOther), "wrong-frame/fresh");
}

// --- PDPTE registers, which MOV to CR3 loads through EPT.

// The PDPT's page is moved from a frame with kGva's PDPTE to one without, and CR3 is loaded again.
class MovedPdptBed : public NestedBed {
 public:
  static constexpr std::uint64_t kPdptPage = kPage + 0x2000, kFormer = 0x3500000,
                                 kPresent = 0x3600000;
  explicit MovedPdptBed(bool flush = false) : NestedBed(Nesting::kEpt, Mode::kPae) {
    map_guest();
    for (std::uint64_t i = 0; i < 4; ++i) {
      spec.write_word(kFormer + 8 * i, i == 0 ? upper(3) : 0);
      spec.write_word(kPresent + 8 * i, 0);
    }
    put_nested(kPdptPage, 1, kFormer | kUsedEpt);
    enter();
    EXPECT_EQ(says(mov(Reg::kCr3, kPdptPage)), "ok");
    EXPECT_EQ(reads_at(kFrame), "ok");
    store_nested(kPdptPage, 1, kPresent | kUsedEpt);
    if (flush) EXPECT_EQ(invept(1, eptp()), "ok");
    EXPECT_EQ(says(mov(Reg::kCr3, kPdptPage)), "ok");
  }
  std::string faults() {
    Outcome o = fault(kGva, 0);
    o.path[0] = {};
    return ends(AccessKind::kRead, o);
  }
};

TEST(PdpteRegisters, TheFirstAccessShowsWhichWereLoaded) {
  MovedPdptBed former;
  EXPECT_EQ(former.reads_at(kFrame), "ok");
  EXPECT_EQ(former.reads_at(kFrame), "ok");
  EXPECT_EQ(former.faults(), "spurious-fault/fresh");
  MovedPdptBed present;
  EXPECT_EQ(present.faults(), "ok");
  EXPECT_EQ(present.faults(), "ok");
  EXPECT_NE(present.reads_at(kFrame), "ok");
}

TEST(PdpteRegisters, AfterInveptThePresentOnesAreLoaded) {
  MovedPdptBed bed(true);
  EXPECT_NE(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.faults(), "ok");
}

TEST(PdpteRegisters, OthersStayOpenUntilAnAccessShowsThem) {
  MovedPdptBed bed;
  EXPECT_EQ(says(bed.mov(Reg::kCr3, MovedPdptBed::kPdptPage)), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(says(bed.mov(Reg::kCr3, kInitialCr3)), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.faults(), "stale-after-flush/stale-8");
}

// --- NPT.

TEST(NptStale, WhatDropsAnAsid) {
  struct Row {
    unsigned control;
    bool drops;
  };
  for (const Row& row : {Row{0, false}, Row{1, true}, Row{3, true}, Row{7, true}}) {
    RemappedBed bed(Nesting::kNpt);
    EXPECT_EQ(bed.reads_at(kFrame), "ok");
    EXPECT_EQ(bed.enter(bed.eptp(), 1, OutcomeKind::kDone, row.control), "ok");
    EXPECT_EQ(bed.reads_at(kFrame), row.drops ? "stale-after-flush/tlb-control" : "ok")
        << row.control;
  }
}

TEST(NptStale, AnotherAsidIsNotFlushed) {
  RemappedBed bed(Nesting::kNpt);
  EXPECT_EQ(bed.enter(bed.eptp(), 2, OutcomeKind::kDone, 3), "ok");
  EXPECT_EQ(bed.enter(bed.eptp(), 1), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
}

TEST(NptStale, AFormerNestedRootIsNoTag) {
  UsedBed bed(Nesting::kNpt);
  const std::uint64_t root = 0x17f000;
  bed.spec.write_word(root, 0x17e000 | kPwu);
  bed.spec.write_word(0x17e000, 0x17d000 | kPwu);
  bed.spec.write_word(0x17d000, bed.large());
  bed.spec.write_word(0x17d000 + (kPage >> 21) * 8, kOther | bed.large());
  EXPECT_EQ(bed.enter(root), "ok");
  EXPECT_EQ(bed.reads_at(kOther), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.enter(root, 1, OutcomeKind::kDone, 3), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/tlb-control");
}

TEST(NptStale, InvlpgaDropsAGuestsTranslation) {
  UsedBed bed(Nesting::kNpt);
  bed.put_nested(kPage + 0x1000, 1, kOther | kPwu);
  bed.change_guest_leaf((kPage + 0x1000) | kLeafUsed);
  EXPECT_EQ(bed.invlpga(kGva, 2), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "ok");
  EXPECT_EQ(bed.invlpga(kGva, 1), "ok");
  EXPECT_EQ(bed.reads_at(kFrame), "stale-after-flush/invlpga");
}

TEST(NptStale, NothingThatWasOnlyCachedFaults) {
  NestedBed bed(Nesting::kNpt);
  bed.put_nested(kPage, 1, kFrame | (kLeafUsed & ~pte::kW));
  bed.map_guest();
  bed.enter();
  EXPECT_EQ(bed.access_ok(AccessKind::kRead, kGva), "ok");
  bed.store_nested(kPage, 1, kFrame | kLeafUsed);
  EXPECT_EQ(bed.ends(AccessKind::kWrite, bed.nested_fault(0x1'0000'0007, kPage)),
            "spurious-fault/fresh");
}

}  // namespace
}  // namespace twinwalk::oracle
