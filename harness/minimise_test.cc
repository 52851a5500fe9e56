#include "harness/minimise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "harness/trace/schema.h"

namespace twinwalk {
namespace {

Op map(std::uint64_t gva, std::uint64_t gpa) {
  Op op = make_op(Verb::kMap);
  set(op, Field::kGva, gva);
  set(op, Field::kGpa, gpa);
  return op;
}
Op read(std::uint64_t gva) {
  Op op = make_op(Verb::kAccess);
  set(op, Field::kGva, gva);
  return op;
}

Trace long_trace() {
  Trace t;
  t.machine.vcpus = 2;
  t.machine.maxphyaddr = 36;
  for (std::uint64_t n = 0; n < 200; ++n) {
    t.ops.push_back(map(0x400000 + n * 4096, n * 4096));
    Op op = read(0x400000 + n * 4096);
    set(op, Field::kCpl, 3);
    op.vcpu = 1;
    t.ops.push_back(op);
  }
  t.comments.push_back({3, "why"});
  return t;
}

bool maps(const Trace& t, std::uint64_t gpa) {
  return std::any_of(t.ops.begin(), t.ops.end(),
                     [=](const Op& op) { return op.verb == Verb::kMap && op.gpa == gpa; });
}

TEST(Minimise, KeepsWhatIsNeeded) {
  const auto shows = [](const Trace& t) {
    return maps(t, 0x7000) && maps(t, 0x9000) && t.machine.vcpus == 2;
  };
  const Minimised m = minimise(long_trace(), shows);
  EXPECT_TRUE(m.reproduced);
  ASSERT_EQ(m.trace.ops.size(), 2u);
  EXPECT_TRUE(shows(m.trace));
  EXPECT_EQ(m.trace.machine.maxphyaddr, Machine{}.maxphyaddr);
  EXPECT_TRUE(m.trace.comments.empty());
  EXPECT_LT(m.runs, 500u);
}

// An operation of a vCPU that the machine has not got is a divergence of no subject's.
TEST(Minimise, KeepsTracesLegal) {
  const auto shows = [](const Trace& t) {
    EXPECT_TRUE(std::all_of(t.ops.begin(), t.ops.end(),
                            [&](const Op& op) { return op.vcpu < t.machine.vcpus; }));
    return std::any_of(t.ops.begin(), t.ops.end(), [](const Op& op) { return op.vcpu == 1; });
  };
  Trace t = long_trace();
  t.machine.vcpus = 4;
  EXPECT_EQ(minimise(t, shows).trace.machine.vcpus, 2);
}

TEST(Minimise, SimplifiesFields) {
  const auto shows = [](const Trace& t) {
    return std::any_of(t.ops.begin(), t.ops.end(), [](const Op& op) {
      return op.verb == Verb::kAccess && op.gva >> 12 == 0x405;
    });
  };
  Trace t = long_trace();
  for (Op& op : t.ops) op.gva |= 0x123;
  const Minimised m = minimise(t, shows);
  ASSERT_EQ(m.trace.ops.size(), 1u);
  EXPECT_EQ(m.trace.ops[0].gva, 0x405000u);
  EXPECT_EQ(m.trace.ops[0].vcpu, 0);
  EXPECT_FALSE(m.trace.ops[0].gives(Field::kCpl));
}

// Neither of the two can go alone.
TEST(Minimise, DropsPairs) {
  Trace t;
  t.ops = {map(0x400000, 0x7000), map(0x401000, 0x9000), map(0x402000, 0xb000)};
  const auto shows = [](const Trace& trace) {
    return maps(trace, 0x9000) && maps(trace, 0x7000) == maps(trace, 0xb000);
  };
  EXPECT_EQ(minimise(t, shows).trace.ops.size(), 1u);
}

// None of the three can go alone, nor with one other.
TEST(Minimise, DropsTriples) {
  Trace t;
  t.ops = {map(0x400000, 0x7000), map(0x401000, 0x9000), map(0x402000, 0xb000),
           map(0x403000, 0xd000)};
  const auto shows = [](const Trace& trace) {
    const bool first = maps(trace, 0x7000);
    return maps(trace, 0x9000) && maps(trace, 0xb000) == first && maps(trace, 0xd000) == first;
  };
  EXPECT_EQ(minimise(t, shows).trace.ops.size(), 1u);
}

// A field says something only while the other operation is there, and needs it then.
TEST(Minimise, DropsWhatASimplerFieldMakesNeedless) {
  Trace t;
  t.ops = {map(0x400000, 0x7000), read(0x400000)};
  set(t.ops[1], Field::kCpl, 3);
  const auto shows = [](const Trace& trace) {
    return std::any_of(trace.ops.begin(), trace.ops.end(), [&](const Op& op) {
      return op.verb == Verb::kAccess && op.gives(Field::kCpl) == maps(trace, 0x7000);
    });
  };
  const Minimised m = minimise(t, shows);
  ASSERT_EQ(m.trace.ops.size(), 1u);
  EXPECT_FALSE(m.trace.ops[0].gives(Field::kCpl));
}

// How many tables the accesses fill: one for each 2 MiB that has a page mapped and used.
std::size_t tables(const Trace& t) {
  std::set<std::uint64_t> mapped, used;
  for (const Op& op : t.ops) {
    if (op.verb == Verb::kMap) mapped.insert(op.gva >> 12);
    if (op.verb == Verb::kAccess && mapped.count(op.gva >> 12)) used.insert(op.gva >> 21);
  }
  return used.size();
}

// What fills the second table takes four operations, and none of them can go; a pair that is there
// does the same at another address.
TEST(Minimise, TradesNeighboursForFewer) {
  Trace t;
  t.ops = {map(0, 0x7000), read(0)};
  for (std::uint64_t n = 1; n <= 4; ++n) {
    Op op = make_op(Verb::kInvlpg);
    set(op, Field::kGva, n << 21);
    t.ops.push_back(op);
  }
  const auto shows = [](const Trace& trace) {
    const auto invlpgs = std::count_if(trace.ops.begin(), trace.ops.end(),
                                       [](const Op& op) { return op.verb == Verb::kInvlpg; });
    return tables(trace) + static_cast<std::size_t>(invlpgs) / 4 == 2;
  };
  ASSERT_TRUE(shows(t));
  const Minimised m = minimise(t, shows);
  EXPECT_EQ(m.trace.ops.size(), 4u);
  EXPECT_EQ(tables(m.trace), 2u);
}

TEST(Minimise, TriesOnlySoManyTrades) {
  Trace t;
  for (std::uint64_t n = 0; n < 12; ++n) t.ops.push_back(map(n << 12, 0x7000));
  const auto shows = [&](const Trace& trace) { return trace.ops.size() == t.ops.size(); };
  MinimiseOptions options;
  options.max_trades = 0;
  const std::uint64_t without_trades = minimise(t, shows, options).runs;
  options.max_trades = 50;
  EXPECT_EQ(minimise(t, shows, options).runs, without_trades + 50);
}

TEST(Minimise, LowersWhatTheMachineCounts) {
  Trace t;
  t.machine.quota = 100;
  t.ops = {map(0x400000, 0x7000)};
  const auto shows = [](const Trace& trace) {
    return trace.machine.quota >= 13 && trace.machine.quota <= 100;
  };
  EXPECT_EQ(minimise(t, shows).trace.machine.quota, 13u);
}

TEST(Minimise, ExpectationsFollowTheirOperation) {
  Trace t = long_trace();
  t.expectations.push_back({11, "#PF"});
  const auto shows = [](const Trace& c) {
    return c.expectations.size() == 1 && c.ops[c.expectations[0].op].gva == 0x405000;
  };
  const Minimised m = minimise(t, shows);
  ASSERT_EQ(m.trace.ops.size(), 1u);
  EXPECT_EQ(m.trace.expectations[0].op, 0u);
}

TEST(Minimise, GivesBackWhatDoesNotReproduce) {
  const Minimised m = minimise(long_trace(), [](const Trace&) { return false; });
  EXPECT_FALSE(m.reproduced);
  EXPECT_EQ(m.trace, long_trace());
}

TEST(Minimise, IsBoundedAndStops) {
  MinimiseOptions options;
  options.max_runs = 10;
  EXPECT_LE(minimise(
                long_trace(), [](const Trace& t) { return maps(t, 0x7000); }, options)
                .runs,
            10u);
  options = {};
  unsigned asked = 0;
  options.stop = [&] { return ++asked > 5; };
  EXPECT_LE(minimise(
                long_trace(), [](const Trace& t) { return maps(t, 0x7000); }, options)
                .runs,
            7u);
}

TEST(Minimise, IsDeterministic) {
  const auto shows = [](const Trace& t) { return maps(t, 0x7000) && t.ops.size() > 3; };
  EXPECT_EQ(minimise(long_trace(), shows).trace, minimise(long_trace(), shows).trace);
}

}  // namespace
}  // namespace twinwalk
