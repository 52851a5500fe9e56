// Private and shared memory, and the page that a hypervisor keeps for itself.

#include <gtest/gtest.h>

#include "harness/trace/schema.h"
#include "oracle/mode_bed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kGva = 0x5000, kFrame = 0x40'0000, kShared = bit(39);

Machine machine_with(std::uint32_t tdp) {
  Machine m;
  m.core = Dimension::kEpt;
  m.tdp = tdp;
  return m;
}

Op attributes(std::uint64_t gpa, std::uint64_t pages, bool is_private) {
  Op op = make_op(Verb::kAttributes);
  set(op, Field::kGpa, gpa);
  set(op, Field::kPages, pages);
  set(op, Field::kValue, is_private ? 1 : 0);
  return op;
}

Outcome exit_at(OutcomeKind kind, std::uint64_t gpa, bool write = false) {
  Outcome o;
  o.kind = kind;
  o.gpa[0] = gpa;
  o.write = write;
  return o;
}

class PrivateMemoryTest : public ::testing::Test {
 protected:
  explicit PrivateMemoryTest(std::uint32_t tdp = tdp::kUsual | tdp::kPrivate)
      : bed_(machine_with(tdp), Profile::kArchitecture) {}
  std::string set_kind(std::uint64_t gpa, std::uint64_t pages, bool is_private,
                       OutcomeKind got = OutcomeKind::kDone) {
    Outcome o;
    o.kind = got;
    return says(bed_.step(attributes(gpa, pages, is_private), o));
  }
  std::string reads(const Outcome& got) { return says(bed_.access(AccessKind::kRead, kGva, got)); }
  std::string reads_at(std::uint64_t gpa) { return bed_.read_through(kGva, gpa); }
  ModeBed bed_;
};

TEST_F(PrivateMemoryTest, AllIsPrivateAtFirst) {
  bed_.map(kGva, kFrame | kLeafUsed);
  EXPECT_EQ(reads_at(kFrame), "ok");
  bed_.write(Testbed::entry_gpa(kGva, 1), kFrame | kShared | kLeafUsed);
  bed_.invlpg(kGva);
  EXPECT_EQ(reads(exit_at(OutcomeKind::kMemoryFault, kFrame | kShared)), "ok");
}

TEST_F(PrivateMemoryTest, WhatBecomesSharedIsReachedByTheOtherAddress) {
  bed_.map(kGva, kFrame | kLeafUsed);
  EXPECT_EQ(reads_at(kFrame), "ok");
  EXPECT_EQ(set_kind(kFrame, 1, false), "ok");
  EXPECT_EQ(reads(exit_at(OutcomeKind::kMemoryFault, kFrame)), "ok");
  EXPECT_EQ(reads(exit_at(OutcomeKind::kMmio, kFrame)), "wrong-mmio/private");
  bed_.write(Testbed::entry_gpa(kGva, 1), kFrame | kShared | kLeafUsed);
  bed_.invlpg(kGva);
  EXPECT_EQ(reads_at(kFrame | kShared), "ok");
}

TEST_F(PrivateMemoryTest, NothingCachedOutlivesTheChange) {
  bed_.map(kGva, kFrame | kLeafUsed);
  EXPECT_EQ(reads_at(kFrame), "ok");
  const Outcome through = bed_.through(AccessKind::kRead, kGva, kFrame);
  EXPECT_EQ(set_kind(kFrame, 1, false), "ok");
  EXPECT_NE(reads(through), "ok");
}

TEST_F(PrivateMemoryTest, OutsideMemoryAnAddressHasAKindToo) {
  bed_.map(kGva, bit(36) | kLeafUsed);
  EXPECT_EQ(reads(exit_at(OutcomeKind::kMmio, bit(36))), "ok");
  EXPECT_EQ(set_kind(bit(36), 1, false), "ok");
  EXPECT_EQ(reads(exit_at(OutcomeKind::kMmio, bit(36))), "wrong-mmio/private");
  EXPECT_EQ(reads(exit_at(OutcomeKind::kMemoryFault, bit(36))), "ok");
}

TEST_F(PrivateMemoryTest, AMemoryFaultInMemoryOfThatKindIsWrong) {
  bed_.map(kGva, kFrame | kLeafUsed);
  EXPECT_EQ(reads(exit_at(OutcomeKind::kMemoryFault, kFrame)), "wrong-mmio/virtual-29");
}

TEST_F(PrivateMemoryTest, RequestsThatAreRefused) {
  EXPECT_EQ(set_kind(kFrame, 0, true, OutcomeKind::kRefused), "ok");
  EXPECT_EQ(set_kind(kFrame + 8, 1, true, OutcomeKind::kRefused), "ok");
  EXPECT_EQ(set_kind(kShared, 1, true, OutcomeKind::kRefused), "ok");
  EXPECT_EQ(set_kind(kFrame, 1, true, OutcomeKind::kRefused), "wrong-exception/host-request");
  for (std::uint64_t i = 0; i < kMostPrivateRanges - 1; ++i)
    EXPECT_EQ(set_kind(i * 0x2000, 1, false), "ok") << i;
  EXPECT_EQ(set_kind(0x80'0000, 1, false), "ok");
  EXPECT_EQ(set_kind(0x90'0000, 1, false, OutcomeKind::kRefused), "ok");
}

class OneKind : public PrivateMemoryTest {
 protected:
  OneKind() : PrivateMemoryTest(tdp::kUsual) {}
};
TEST_F(OneKind, HasNoAttributes) {
  EXPECT_EQ(set_kind(kFrame, 1, true, OutcomeKind::kRefused), "ok");
  bed_.map(kGva, kFrame | kShared | kLeafUsed);
  EXPECT_EQ(reads(exit_at(OutcomeKind::kMmio, kFrame | kShared)), "ok");
}

// ---- who tracks stores

Op track(std::uint64_t gpa, bool on, unsigned space = 0) {
  Op op = make_op(Verb::kTrack);
  set(op, Field::kGpa, gpa);
  set(op, Field::kValue, on ? 1 : 0);
  set(op, Field::kSpace, space);
  return op;
}

class Slots : public PrivateMemoryTest {
 protected:
  static constexpr std::uint64_t kSlot = 1, kThere = 0x8'0000'0000, kRo = slot_flag::kReadOnly,
                                 kLog = slot_flag::kLogDirty;
  explicit Slots(std::uint32_t tdp = tdp::kUsual | tdp::kPrivate) : PrivateMemoryTest(tdp) {}
  // How the host's request ends: "done" or "refused".
  std::string ask(const Op& op) {
    Outcome o;
    o.kind = OutcomeKind::kDone;
    const std::string done = says(bed_.step(op, o));
    if (done == "ok") return "done";
    EXPECT_EQ(done, "wrong-exception/host-request");
    return "refused";
  }
  std::string add(std::uint64_t flags, unsigned space = 0) {
    Op op = make_op(Verb::kSlotAdd);
    set(op, Field::kSlot, kSlot);
    set(op, Field::kGpa, kThere);
    set(op, Field::kPages, 4);
    set(op, Field::kHva, kHvaBase);
    set(op, Field::kFlags, flags);
    set(op, Field::kSpace, space);
    return ask(op);
  }
  std::string flags(std::uint64_t flags) {
    Op op = make_op(Verb::kSlotFlags);
    set(op, Field::kSlot, kSlot);
    set(op, Field::kFlags, flags);
    return ask(op);
  }
  std::string move(std::uint64_t gpa) {
    Op op = make_op(Verb::kSlotMove);
    set(op, Field::kSlot, kSlot);
    set(op, Field::kGpa, gpa);
    return ask(op);
  }
  std::string remove() {
    Op op = make_op(Verb::kSlotDelete);
    set(op, Field::kSlot, kSlot);
    return ask(op);
  }
  std::string share(std::uint64_t pages, bool is_private) {
    return ask(attributes(kThere, pages, is_private));
  }
};

TEST_F(Slots, WithoutAMemslotNobodyTracks) {
  EXPECT_EQ(ask(track(kThere, true)), "refused");
  EXPECT_EQ(ask(track(kThere, false)), "refused");
  EXPECT_EQ(ask(track(kFrame + 8, true)), "done");
  EXPECT_EQ(ask(track(kFrame, true, 1)), "done") << "each address space has its own";
}

TEST_F(Slots, AsManyStopAsBegan) {
  EXPECT_EQ(ask(track(kFrame, true)), "done");
  EXPECT_EQ(ask(track(kFrame, true)), "done");
  EXPECT_EQ(ask(track(kFrame, false)), "done");
  EXPECT_EQ(ask(track(kFrame + 4096, false)), "refused");
  EXPECT_EQ(ask(track(kFrame, false)), "done");
  EXPECT_EQ(ask(track(kFrame, false)), "refused");
}

TEST_F(Slots, DeletionAndMoveEndIt) {
  ASSERT_EQ(add(0), "done");
  EXPECT_EQ(ask(track(kThere, true)), "done");
  EXPECT_EQ(flags(kLog), "done");
  EXPECT_EQ(ask(track(kThere, false)), "done") << "other flags do not";
  EXPECT_EQ(ask(track(kThere, true)), "done");
  ASSERT_EQ(move(kThere + 0x10000), "done");
  EXPECT_EQ(ask(track(kThere + 0x10000, false)), "refused");
  ASSERT_EQ(move(kThere), "done");
  EXPECT_EQ(ask(track(kThere, false)), "refused");
  EXPECT_EQ(ask(track(kThere, true)), "done");
  ASSERT_EQ(remove(), "done");
  ASSERT_EQ(add(0), "done");
  EXPECT_EQ(ask(track(kThere, false)), "refused");
}

TEST_F(Slots, TheCoresOwnTablesHaveWhatTheHostWants) {
  EXPECT_EQ(add(kRo | kLog), "done");
  EXPECT_EQ(ask(track(kThere, true)), "done");
  EXPECT_EQ(share(4, true), "done");
}

// A module maps with all rights and logs nothing.
class Module : public Slots {
 protected:
  Module() : Slots(tdp::kUsual | tdp::kPrivate | tdp::kExternal) {}
};

TEST_F(Module, PrivateMemoryIsNeitherReadOnlyNorLogged) {
  for (const std::uint64_t watch : {kRo, kLog}) {
    EXPECT_EQ(add(watch), "refused");
    ASSERT_EQ(add(0), "done");
    EXPECT_EQ(flags(watch), "refused");
    ASSERT_EQ(share(3, false), "done");
    EXPECT_EQ(flags(watch), "refused") << "one page is private still";
    ASSERT_EQ(share(4, false), "done");
    EXPECT_EQ(flags(watch), "done");
    EXPECT_EQ(share(1, true), "refused");
    EXPECT_EQ(ask(attributes(kThere + 0x4000, 4, true)), "done") << "beside it";
    EXPECT_EQ(move(kThere + 0x2000), "refused");
    EXPECT_EQ(flags(0), "done");
    EXPECT_EQ(share(4, true), "done");
    ASSERT_EQ(remove(), "done");
  }
}

TEST_F(Module, PrivateMemoryIsNotTracked) {
  EXPECT_EQ(ask(track(kFrame, true)), "refused");
  ASSERT_EQ(add(0), "done");
  ASSERT_EQ(share(2, false), "done");
  EXPECT_EQ(ask(track(kThere + 0x1000, true)), "done");
  EXPECT_EQ(ask(track(kThere + 0x2000, true)), "refused");
  EXPECT_EQ(share(2, true), "refused");
  EXPECT_EQ(share(1, true), "done");
  ASSERT_EQ(ask(track(kThere + 0x1000, false)), "done");
  EXPECT_EQ(share(2, true), "done");
}

TEST_F(Module, NothingIsPrivateInSmm) {
  EXPECT_EQ(add(kRo, 1), "done");
  EXPECT_EQ(ask(track(kThere, true, 1)), "done");
}

class IdentityMap : public PrivateMemoryTest {
 protected:
  IdentityMap() : PrivateMemoryTest(tdp::kUsual & ~tdp::kUnrestricted) {}
};
TEST_F(IdentityMap, WhatTheGuestFindsInItIsNotDefined) {
  bed_.map(kGva, kIdentityMap | kLeafUsed);
  for (const OutcomeKind kind : {OutcomeKind::kOk, OutcomeKind::kMmio}) {
    const Verdict v = bed_.access(AccessKind::kRead, kGva, exit_at(kind, kIdentityMap));
    EXPECT_EQ(v.kind, VerdictKind::kUnspecified);
    EXPECT_EQ(v.rule->id, "identity-map");
  }
}
TEST_F(IdentityMap, NoMemslotMayBeThere) {
  Op add = make_op(Verb::kSlotAdd);
  set(add, Field::kSlot, 1);
  set(add, Field::kGpa, kIdentityMap - 0x1000);
  set(add, Field::kPages, 2);
  set(add, Field::kHva, kHvaBase);
  Outcome refused;
  refused.kind = OutcomeKind::kRefused;
  EXPECT_EQ(says(bed_.step(add, refused)), "ok");
  set(add, Field::kPages, 1);
  EXPECT_EQ(says(bed_.step(add, Outcome{})), "ok");
}

}  // namespace
}  // namespace twinwalk::oracle
