// What a dirty log owes.

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "oracle/testbed.h"

namespace twinwalk::oracle {
namespace {

constexpr std::uint64_t kPage = 0x1000, kGva = 0x5000, kOld = 0x40000, kNew = 0x50000;

// Slot 0 logs.
struct LoggedBed : Testbed {
  explicit LoggedBed(std::uint32_t options = 0) : Testbed(Profile::kKvm, with(options)) {
    map(kGva, kOld | kPwua);
    Op flags;
    flags.verb = Verb::kSlotFlags;
    flags.flags = slot_flag::kLogDirty;
    EXPECT_EQ(says(step(flags, Outcome{})), "ok");
  }
  static Machine with(std::uint32_t options) {
    Machine machine;
    machine.options = options;
    return machine;
  }
  std::string get(std::vector<std::uint64_t> gfns) {
    extra = std::move(gfns);
    Op op;
    op.verb = Verb::kDirtyGet;
    Outcome o;
    o.extra_count = static_cast<std::uint32_t>(extra.size());
    return says(step(op, o));
  }
  void clear(std::uint64_t gpa) {
    Op op;
    op.verb = Verb::kDirtyClear;
    op.gpa = gpa;
    op.pages = 1;
    EXPECT_EQ(says(step(op, Outcome{})), "ok");
  }
};

TEST(DirtyLog, Rule28StoresAndTablesOfDirtyBitsAreOwedOnce) {
  LoggedBed bed;
  bed.access_fresh(AccessKind::kWrite, kGva);
  EXPECT_EQ(bed.get({kOld >> 12}), "lost-dirty-log/virtual-28") << "D was set in the page table";
  bed.access_fresh(AccessKind::kWrite, kGva);
  EXPECT_EQ(bed.get({kOld >> 12}), "ok") << "D was set already";
  EXPECT_EQ(bed.get({}), "ok") << "collected";
}

TEST(DirtyLog, Rule28SupersetIsFine) {
  LoggedBed bed;
  bed.write(kNew, 0x10);
  EXPECT_EQ(bed.get({kOld >> 12, kNew >> 12, 0x77}), "ok");
}

TEST(DirtyLog, Rule28EmulatedStoreIsOwedAndHostStoreIsNot) {
  LoggedBed bed;
  bed.write(kNew, 0x10, Writer::kHost);
  EXPECT_EQ(bed.get({}), "ok");
  bed.write(kNew, 0x20, Writer::kGuest);
  EXPECT_EQ(bed.get({}), "lost-dirty-log/virtual-28");
}

TEST(DirtyLog, Rule28WithManualClearItStaysUntilItIsCleared) {
  constexpr std::uint64_t kPageOfLog = 0x41000;  // no first page of a word of the bitmap
  LoggedBed bed(option::kManualClear);
  bed.write(kPageOfLog, 0x10);
  EXPECT_EQ(bed.get({kPageOfLog >> 12}), "ok");
  EXPECT_EQ(bed.get({}), "lost-dirty-log/virtual-28") << "collected is not cleared";
  bed.clear(kNew);
  EXPECT_EQ(bed.get({}), "lost-dirty-log/virtual-28") << "another page";
  bed.clear(kPageOfLog);
  EXPECT_EQ(bed.get({}), "ok");
  bed.write(kPageOfLog, 0x20);
  EXPECT_EQ(bed.get({}), "lost-dirty-log/virtual-28") << "written again";
}

TEST(DirtyLog, Rule28WhatIsSetAtFirstIsOwedToo) {
  LoggedBed bed(option::kManualClear | option::kInitiallySet);
  std::vector<std::uint64_t> all(LoggedBed::with(0).memory_bytes() / kPage);
  std::iota(all.begin(), all.end(), std::uint64_t{0});
  EXPECT_EQ(bed.get(all), "ok");
  all.erase(all.begin() + 7);
  EXPECT_EQ(bed.get(all), "lost-dirty-log/virtual-28");
  bed.clear(0x7000);
  EXPECT_EQ(bed.get(all), "ok");
  all.insert(all.begin(), 0);  // once is once
  all.pop_back();
  EXPECT_EQ(bed.get(all), "lost-dirty-log/virtual-28");
}

TEST(DirtyLog, Rule28ASlotTakesItsLogAlong) {
  for (const bool told : {true, false}) {
    LoggedBed bed;
    bed.write(kOld, 0x10);
    Op move;
    move.verb = Verb::kSlotMove;
    move.gpa = 0x80000000;
    ASSERT_EQ(says(bed.step(move, Outcome{})), "ok");
    bed.write(move.gpa + kNew, 0x10);
    std::vector<std::uint64_t> gfns = {(move.gpa + kOld) / kPage, (move.gpa + kNew) / kPage};
    if (!told) gfns[0] = kOld / kPage;  // that is no page of it now
    EXPECT_EQ(bed.get(gfns), told ? "ok" : "lost-dirty-log/virtual-28");
  }
}

TEST(DirtyLog, IsClearedByHandOnlyWithinASlotThatLogs) {
  const auto clear = [](std::uint32_t options, std::uint64_t gpa, std::uint64_t pages,
                        std::uint64_t slot, OutcomeKind got) {
    LoggedBed bed(options);
    Op op;
    op.verb = Verb::kDirtyClear;
    op.gpa = gpa;
    op.pages = pages;
    op.slot = slot;
    Outcome outcome;
    outcome.kind = got;
    return says(bed.step(op, outcome));
  };
  const std::uint64_t memory = LoggedBed::with(0).memory_bytes();
  constexpr OutcomeKind kDone = OutcomeKind::kDone, kRefused = OutcomeKind::kRefused;
  EXPECT_EQ(clear(option::kManualClear, memory - kPage, 1, 0, kDone), "ok");
  EXPECT_EQ(clear(option::kManualClear, memory - kPage, 1, 0, kRefused),
            "wrong-exception/host-request");
  EXPECT_EQ(clear(option::kManualClear, memory - kPage, 2, 0, kRefused), "ok") << "past its end";
  EXPECT_EQ(clear(option::kManualClear, memory - kPage, 2, 0, kDone),
            "wrong-exception/host-request");
  EXPECT_EQ(clear(option::kManualClear, kOld, 0, 0, kRefused), "ok") << "nothing";
  EXPECT_EQ(clear(option::kManualClear, kOld + 8, 1, 0, kRefused), "ok") << "no page";
  EXPECT_EQ(clear(option::kManualClear, kOld, 1, 1, kRefused), "ok") << "no such slot";
  EXPECT_EQ(clear(0, kOld, 1, 0, kRefused), "ok") << "collecting clears";
}

}  // namespace
}  // namespace twinwalk::oracle
