// Every allocation of an operation fails once: the operation says so, changes nothing that the
// guest can see, leaves the core's state whole, and succeeds when memory is there again.

#include <gtest/gtest.h>

#include <functional>
#include <ostream>
#include <string>

#include "mmu_core/testing/guest.h"

namespace mmu {
namespace {

using testing::Guest;
using testing::kMemory;
using testing::kRights;
using testing::kUsed;
using testing::LimitedPages;
using testing::Outcome;

constexpr Gva kOld{0x1234'5660'0000}, kNew{0x2345'6660'0000};
constexpr Gpa kPage{0x40'0000}, kOther{0x60'0000}, kSlotGpa{0x1'0000'0000};
constexpr Hva kSlotHva = kMemory + (u64{1} << 34);
constexpr u32 kId = 2;
// More than any operation allocates.
constexpr u64 kMost = 200;

bool done(const Outcome& o) { return o.kind == Outcome::Kind::kOk; }

struct Operation {
  std::string name;
  std::function<void(Guest&)> prepare;
  std::function<bool(Guest&)> run;  // false: no memory
};
void PrintTo(const Operation& op, std::ostream* out) { *out << op.name; }

void with_slot(Guest& g) { g.add_slot(kId, Gfn::of(kSlotGpa), 1024, kSlotHva); }
bool slot_change(Guest& g, MemslotRequest::Kind kind, Gfn gfn, bool log) {
  const Status status = g.slot_request(kind, kId, gfn, false, log);
  EXPECT_NE(status, Status::kInvalid);
  return status == Status::kOk;
}
bool slot_add(Guest& g) {
  MemslotRequest r;
  r.id = kId;
  r.gfn = Gfn::of(kSlotGpa);
  r.pages = 1024;
  r.hva = kSlotHva;
  r.log_dirty = true;
  return g.vm().set_memslot(r) == Status::kOk;
}
// Uses up what the caches hold, so that the next fault must allocate.
void drain_caches(Guest& g) {
  for (unsigned i = 0; i < 8; ++i) {
    const Gva gva{u64{i + 1} << 39};
    g.map(gva, kPage);
    g.read(gva);
  }
}

class AllocFailure : public ::testing::TestWithParam<Operation> {
 protected:
  // Runs the operation with `n` allocations left in one source, until the source is large enough.
  static void exhaust(LimitedPages testing::RecordingPlatform::*source) {
    const Operation& op = GetParam();
    for (u64 n = 0; n < kMost; ++n) {
      Guest g;
      g.map(kOld, kPage);
      g.map(kNew, kOther, kRights);
      g.write(kOld, 1);
      op.prepare(g);
      const u64 guest_entry = g.load(g.entry(kNew, 1));
      g.platform.*source = LimitedPages(n);
      const bool enough = op.run(g);
      g.audit();
      g.platform.*source = LimitedPages();
      if (enough) return;
      EXPECT_EQ(g.load(g.entry(kNew, 1)), guest_entry) << n << " allocations left";
      EXPECT_EQ(g.read(kOld), g.reaches(kPage)) << n << " allocations left";
      EXPECT_TRUE(op.run(g)) << n << " allocations left at first";
      g.audit();
    }
    FAIL() << "still not enough memory";
  }
};

INSTANTIATE_TEST_SUITE_P(
    Operations, AllocFailure,
    ::testing::Values(Operation{"read", drain_caches, [](Guest& g) { return done(g.read(kNew)); }},
                      Operation{"write", drain_caches,
                                [](Guest& g) { return done(g.write(kNew, 2)); }},
                      Operation{"large guest page",
                                [](Guest& g) {
                                  drain_caches(g);
                                  g.map(Gva{0x3333'4440'0000}, kOther, kUsed, 2);
                                },
                                [](Guest& g) { return done(g.read(Gva{0x3333'4440'0000})); }},
                      Operation{"new root",
                                [](Guest& g) {
                                  drain_caches(g);
                                  const Gpa root = g.new_table();
                                  g.map(root, kOld, kPage);
                                  EXPECT_TRUE(g.cpu().set_cr3(root.raw));
                                },
                                [](Guest& g) { return done(g.read(kOld)); }},
                      Operation{"after zap all",
                                [](Guest& g) {
                                  drain_caches(g);
                                  g.vm().zap_all();
                                },
                                [](Guest& g) { return done(g.read(kOld)); }},
                      Operation{"slot add", [](Guest&) {}, slot_add},
                      Operation{"slot move", with_slot,
                                [](Guest& g) {
                                  return slot_change(g, MemslotRequest::Kind::kMove, Gfn{0x20'0000},
                                                     false);
                                }},
                      Operation{"slot log on", with_slot, [](Guest& g) {
                                  return slot_change(g, MemslotRequest::Kind::kFlags, Gfn{}, true);
                                }}));

TEST_P(AllocFailure, OfTables) { exhaust(&testing::RecordingPlatform::table_source); }
TEST_P(AllocFailure, OfObjects) { exhaust(&testing::RecordingPlatform::object_source); }

TEST(AllocFailureOf, TheDummyRoot) {
  Guest g;
  ASSERT_TRUE(g.cpu().set_cr3(u64{1} << 36));
  g.platform.table_source = LimitedPages(0);
  EXPECT_FALSE(g.cpu().enter().ok);
  g.audit();
  g.platform.table_source = LimitedPages();
  EXPECT_TRUE(g.cpu().enter().ok);
}

// A move that fails half way leaves the slot where it was.
TEST(AllocFailureOf, AMoveLeavesTheSlotUsable) {
  Guest g;
  with_slot(g);
  g.map(kNew, kSlotGpa);
  g.write(kNew, 0x99);
  g.platform.object_source = LimitedPages(0);
  EXPECT_EQ(g.slot_request(MemslotRequest::Kind::kMove, kId, Gfn{0x20'0000}), Status::kNoMemory);
  g.platform.object_source = LimitedPages();
  EXPECT_EQ(g.read(kNew).value, 0x99u);
}

}  // namespace
}  // namespace mmu
