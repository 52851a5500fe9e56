#include "harness/sweep/sweep.h"

#include <gtest/gtest.h>

#include <set>

#include "harness/bare_subject.h"
#include "harness/core_subject.h"
#include "harness/sweep/layout.h"
#include "harness/sweep/sweep_case.h"
#include "oracle/spec.h"

namespace twinwalk::sweep {
namespace {

// A subject without any cache: what the reference's fresh walk says. `spoil` changes an outcome
// before it is given.
class FreshSubject final : public Subject {
 public:
  std::function<void(const Step&, Outcome&)> spoil;

  const SubjectInfo& info() const override { return info_; }
  void run(const Program& program, OutcomeStream& out) override {
    out.clear();
    spec_.reset(program.machine, Profile::kKvm);
    Verdict verdict;
    for (std::uint32_t i = 0; i < program.steps.size(); ++i) {
      Outcome o;
      const Op& op = program.steps[i].what;
      if (op.verb == Verb::kAccess) {
        oracle::AccessQuery q{op.gva,      static_cast<std::uint8_t>(op.size),
                              op.access(), op.implicit != 0,
                              op.value,    spec_.registers(op.vcpu)};
        const oracle::FreshOutcome f = spec_.fresh(op.vcpu, q);
        o.kind = f.kind;
        o.error_code = f.error_code;
        o.cr2 = f.cr2;
        o.value = f.value;
        o.write = f.kind == OutcomeKind::kMmio &&
                  (q.kind == AccessKind::kWrite || q.kind == AccessKind::kRmw);
        for (unsigned h = 0; h < 2; ++h) o.gpa[h] = f.gpa[h], o.path[h] = f.path[h];
      }
      spec_.judge(i, program.steps[i], o, nullptr, verdict);
      if (verdict.kind == VerdictKind::kDiverge && verdict.allowed == "#GP")
        o.kind = OutcomeKind::kGp;  // a register write that is refused changes nothing
      if (spoil) spoil(program.steps[i], o);
      out.steps.push_back(o);
    }
  }

 private:
  SubjectInfo info_{"fresh", "test", Profile::kKvm};
  oracle::Spec spec_;
};

constexpr Mode kModes[] = {Mode::kNone, Mode::k32Bit, Mode::kPae, Mode::k4Level, Mode::k5Level};

SweepOptions shard_of(Mode mode, unsigned shard, unsigned shards, std::string only = {}) {
  SweepOptions o;
  o.mode = mode;
  o.shard = shard;
  o.shards = shards;
  o.only = std::move(only);
  return o;
}

TEST(Sweep, ShardsPartitionTheCases) {
  FreshSubject subject;
  std::uint64_t sum = 0;
  for (unsigned i = 0; i < 3; ++i)
    sum += run_sweep(subject, shard_of(Mode::k4Level, i, 3, "accessed-dirty")).cases;
  const SweepResult whole = run_sweep(subject, shard_of(Mode::k4Level, 0, 1, "accessed-dirty"));
  EXPECT_EQ(sum, whole.cases);
  EXPECT_TRUE(whole.clean());
  EXPECT_EQ(whole.agree, whole.cases);
}

TEST(Sweep, EveryBlockMeetsCompletionsAndFaults) {
  FreshSubject subject;
  for (const Block& b : blocks()) {
    // The small blocks whole.
    const unsigned shards = !is_long(b.mode) || b.name == "addresses" ? 1
                            : b.mode == Mode::k5Level                 ? 797
                                                                      : 97;
    const SweepResult r = run_sweep(subject, shard_of(b.mode, 0, shards, std::string(b.name)));
    const std::string what = std::string(name_of(b.mode)) + " " + std::string(b.name);
    EXPECT_GT(r.by_outcome[static_cast<std::size_t>(OutcomeKind::kOk)], 0u) << what;
    EXPECT_EQ(r.by_outcome[static_cast<std::size_t>(OutcomeKind::kPageFault)] > 0,
              b.mode != Mode::kNone)
        << what;
    EXPECT_EQ(r.diverge, 0u) << what << "\n" << (r.mismatches.empty() ? "" : r.mismatches[0].trace);
    EXPECT_EQ(r.skip, 0u) << what;
  }
}

TEST(Sweep, OneWrongAnswerIsFoundWithAMinimalTrace) {
  // A walker that lets supervisor writes through read-only upper entries although CR0.WP=1.
  FreshSubject subject;
  subject.spoil = [](const Step& s, Outcome& o) {
    if (s.what.verb != Verb::kAccess || o.kind != OutcomeKind::kPageFault) return;
    if (o.error_code == (pfec::kP | pfec::kW) && !(o.path[0].entry[0] & pte::kW))
      o.kind = OutcomeKind::kOk;
  };
  const SweepResult r = run_sweep(subject, shard_of(Mode::k4Level, 0, 199, "rights"));
  EXPECT_FALSE(r.clean());
  ASSERT_FALSE(r.mismatches.empty());
  EXPECT_EQ(r.mismatches[0].verdict.divergence, DivergenceClass::kMissedFault);
  EXPECT_TRUE(r.mismatches[0].alone);
  EXPECT_NE(r.mismatches[0].trace.find("access"), std::string::npos);
}

TEST(Sweep, EveryFilterHasAReasonAndLeavesSomethingOut) {
  FreshSubject subject;
  const SweepResult r = run_sweep(subject, shard_of(Mode::k4Level, 0, 211));
  ASSERT_EQ(r.left_out.size(), filters().size());
  for (const auto& left : r.left_out) {
    EXPECT_FALSE(left.reason.empty());
    EXPECT_GT(left.cases, 0u) << left.reason;
  }
}

TEST(Sweep, StopsWhenAsked) {
  FreshSubject subject;
  std::atomic<bool> stop{true};
  SweepOptions o = shard_of(Mode::k4Level, 0, 1);
  o.stop = &stop;
  const SweepResult r = run_sweep(subject, o);
  EXPECT_TRUE(r.stopped);
  EXPECT_EQ(r.cases, 0u);
}

TEST(Sweep, AxisLabelsAreUniqueAndProgramAxesComeFirst) {
  std::vector<Block> all = blocks();
  for (const Nesting nesting : {Nesting::kEpt, Nesting::kNpt})
    all.insert(all.end(), blocks(nesting).begin(), blocks(nesting).end());
  for (const Block& b : all) {
    bool access = false;
    for (const Axis& a : b.axes) {
      std::set<std::string_view> labels;
      for (const AxisValue& v : a.values)
        EXPECT_TRUE(labels.insert(v.label).second) << b.name << " " << a.name;
      access |= a.scope == Scope::kAccess;
      EXPECT_EQ(a.scope == Scope::kAccess, access) << b.name << " " << a.name;
    }
  }
}

// --- Two dimensions.

SweepOptions nested_shard(Nesting nesting, unsigned shard, unsigned shards, std::string only = {}) {
  SweepOptions o;
  o.nesting = nesting;
  o.shard = shard;
  o.shards = shards;
  o.only = std::move(only);
  return o;
}

// The subject `bare`, with outcomes changed before they are given.
class SpoiledSubject final : public Subject {
 public:
  std::function<void(const Step&, Outcome&)> spoil;
  const SubjectInfo& info() const override { return bare_->info(); }
  void run(const Program& program, OutcomeStream& out) override {
    bare_->run(program, out);
    for (std::size_t i = 0; i < out.steps.size(); ++i) spoil(program.steps[i], out.steps[i]);
  }

 private:
  std::unique_ptr<Subject> bare_ = make_bare_subject();
};

TEST(NestedSweep, BareEqualsTheReferenceOnASample) {
  const auto bare = make_bare_subject();
  for (const Nesting nesting : {Nesting::kEpt, Nesting::kNpt}) {
    const SweepResult r =
        run_sweep(*bare, nested_shard(nesting, 7, nesting == Nesting::kEpt ? 97 : 19));
    EXPECT_GT(r.cases, 50'000u);
    EXPECT_EQ(r.agree, r.cases);
    for (const SweepMismatch& m : r.mismatches) {
      ADD_FAILURE() << m.what << "\n"
                    << name_of(m.verdict.divergence) << " got " << m.verdict.got << " allowed "
                    << m.verdict.allowed << "\n"
                    << m.trace;
    }
  }
}

TEST(NestedSweep, EveryBlockMeetsCompletionsAndExits) {
  const auto bare = make_bare_subject();
  for (const Nesting nesting : {Nesting::kEpt, Nesting::kNpt}) {
    std::set<std::string_view> names;
    for (const Block& b : blocks(nesting)) names.insert(b.name);
    for (const std::string_view name : names) {
      const SweepResult r = run_sweep(*bare, nested_shard(nesting, 0, 31, std::string(name)));
      const auto seen = [&](OutcomeKind kind) {
        return r.by_outcome[static_cast<std::size_t>(kind)] != 0;
      };
      const bool ept = nesting == Nesting::kEpt;
      EXPECT_TRUE(seen(OutcomeKind::kOk)) << name;
      EXPECT_TRUE(seen(ept ? OutcomeKind::kEptViolation : OutcomeKind::kNestedFault)) << name;
      // Only those that make such entries.
      if (ept) {
        EXPECT_EQ(seen(OutcomeKind::kEptMisconfig), name != "nested-flags") << name;
      }
    }
  }
}

TEST(NestedSweep, OneWrongBitOfAQualificationIsFound) {
  SpoiledSubject subject;
  for (const std::uint64_t wrong : {eqx::kReadable, eqx::kFinal, eqx::kGuestUser}) {
    subject.spoil = [wrong](const Step&, Outcome& o) {
      if (o.kind == OutcomeKind::kEptViolation) o.qualification ^= wrong;
    };
    const SweepResult r = run_sweep(subject, nested_shard(Nesting::kEpt, 0, 997, "guest-rights"));
    EXPECT_FALSE(r.clean());
    ASSERT_FALSE(r.mismatches.empty());
    EXPECT_NE(r.mismatches[0].trace.find("vm-enter"), std::string::npos);
  }
}

TEST(NestedSweep, EveryFilterLeavesSomethingOut) {
  const auto bare = make_bare_subject();
  std::vector<std::uint64_t> left(filters(Nesting::kEpt).size());
  for (const Nesting nesting : {Nesting::kEpt, Nesting::kNpt}) {
    const SweepResult r = run_sweep(*bare, nested_shard(nesting, 0, 997));
    ASSERT_EQ(r.left_out.size(), left.size());
    for (std::size_t i = 0; i < left.size(); ++i) left[i] += r.left_out[i].cases;
  }
  for (std::size_t i = 0; i < left.size(); ++i)
    EXPECT_GT(left[i], 0u) << filters(Nesting::kEpt)[i].reason;
}

// A sample of the whole; `twinwalk sweep` runs all of it.
TEST(Sweep, CoreEqualsTheReferenceOnASample) {
  CoreSubjectOptions options;
  options.audit = false;
  const auto core = make_core_subject(options);
  for (const Mode mode : kModes) {
    const unsigned shards = mode == Mode::k5Level ? 487 : is_long(mode) ? 61 : 1;
    const SweepResult r = run_sweep(*core, shard_of(mode, 5 % shards, shards));
    EXPECT_GT(r.cases, is_long(mode) ? 100'000u : 500u);
    for (const SweepMismatch& m : r.mismatches) {
      ADD_FAILURE() << m.what << "\n"
                    << name_of(m.verdict.divergence) << " got " << m.verdict.got << " allowed "
                    << m.verdict.allowed << "\n"
                    << m.trace;
    }
  }
}

}  // namespace
}  // namespace twinwalk::sweep
