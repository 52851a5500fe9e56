#include "fuzzers/batch_fuzzer.h"

#include <gtest/gtest.h>

#include <memory>

#include "harness/fuzzing/worker_stats.h"
#include "harness/own_subject.h"
#include "harness/trace/schema.h"

namespace twinwalk::fuzz {
namespace {

// The core, as if it were far away; its MMU states are what programs reach.
class NearTarget final : public BatchTarget, public Subject {
 public:
  NearTarget() {
    CoreSubjectOptions options;
    options.state_counters = counters_.data();
    core_ = make_own_subject(options);
  }
  Subject& subject() override { return *this; }
  void prefetch(std::vector<Program> programs) override {
    ++batches;
    asked_ = std::move(programs);
    next_ = 0;
  }
  void append_reached(std::vector<ReachedState>& out) override {
    for (std::size_t i = 0; i < counters_.size(); ++i) {
      if (counters_[i] != 0) out.push_back({static_cast<std::uint16_t>(i), 1});
    }
  }

  const SubjectInfo& info() const override { return core_->info(); }
  void run(const Program& program, OutcomeStream& out) override {
    EXPECT_LT(next_, asked_.size());
    if (next_ < asked_.size()) EXPECT_EQ(asked_[next_].steps.size(), program.steps.size());
    ++next_;
    counters_.assign(counters_.size(), 0);
    core_->run(program, out);
    if (!lies) return;
    for (Outcome& o : out.steps) o.value ^= 1;
  }
  bool read_image(std::uint64_t gpa, std::uint64_t& word) const override {
    return core_->read_image(gpa, word);
  }

  unsigned batches = 0;
  bool lies = false;

 private:
  std::vector<std::uint8_t> counters_ = std::vector<std::uint8_t>(kStateCounters);
  std::unique_ptr<Subject> core_;
  std::vector<Program> asked_;
  std::size_t next_ = 0;
};

class BatchFuzzing : public ::testing::Test {
 protected:
  BatchFuzzing() : checker_(target_) {
    plan_.config = &config_;
    plan_.batch = 8;
  }

  const Config config_ = *find_config("shadow-64");
  NearTarget target_;
  Checker checker_;
  Population population_;
  BatchPlan plan_;
  std::vector<Diverged> diverged_;
};

TEST_F(BatchFuzzing, WhatReachesSomethingNewIsKept) {
  BatchFuzzer fuzzer(plan_, target_, checker_, population_);
  std::size_t told = 0;
  BatchCounts sum;
  for (unsigned i = 0; i < 20; ++i) {
    const BatchCounts counts = fuzzer.round(diverged_, [&](const Trace& trace) {
      EXPECT_LE(trace.ops.size(), plan_.most_ops);
      ++told;
    });
    EXPECT_EQ(counts.execs, plan_.batch);
    sum.ops += counts.ops;
    sum.news += counts.news;
  }
  EXPECT_EQ(target_.batches, 20u);
  EXPECT_TRUE(diverged_.empty());
  EXPECT_GE(sum.ops, 20 * plan_.batch * plan_.least_ops);
  EXPECT_EQ(sum.news, population_.states());  // a bit a state here
  EXPECT_EQ(told, population_.size());
  EXPECT_GT(population_.size(), 8u);
  EXPECT_LT(population_.size(), 160u);  // not everything is new
}

TEST_F(BatchFuzzing, TheSameSeedMakesTheSameRun) {
  const auto states_of = [&] {
    Population population;
    BatchFuzzer fuzzer(plan_, target_, checker_, population);
    for (unsigned i = 0; i < 6; ++i) fuzzer.round(diverged_);
    return population.states() << 16 | population.size();
  };
  const std::size_t first = states_of();
  EXPECT_EQ(states_of(), first);
  plan_.seed = 2;
  EXPECT_NE(states_of(), first);
}

// The control: the same seed and as many traces, once without changing further what was new.
TEST_F(BatchFuzzing, SteeringReachesMore) {
  const auto states_of = [&](bool steered, std::uint64_t seed) {
    plan_.steered = steered;
    plan_.seed = seed;
    Population population;
    BatchFuzzer fuzzer(plan_, target_, checker_, population);
    for (unsigned i = 0; i < 200; ++i) fuzzer.round(diverged_);
    return population.states();
  };
  std::size_t with = 0, without = 0;
  for (const std::uint64_t seed : {1, 2, 3}) {
    with += states_of(true, seed);
    without += states_of(false, seed);
  }
  RecordProperty("with", static_cast<int>(with));
  RecordProperty("without", static_cast<int>(without));
  EXPECT_GT(with, without);
}

TEST_F(BatchFuzzing, WhatDivergesIsHandedOutAndNotKept) {
  target_.lies = true;
  plan_.name = [this](const Checker& checker, const CheckResult& result) {
    EXPECT_EQ(&checker, &checker_);
    return std::string(name_of(result.divergence));
  };
  BatchFuzzer fuzzer(plan_, target_, checker_, population_);
  const BatchCounts counts = fuzzer.round(diverged_);
  EXPECT_GT(counts.divergences, 0u);
  EXPECT_EQ(counts.divergences, diverged_.size());
  EXPECT_LE(population_.size() + diverged_.size(), plan_.batch);
  for (const Diverged& d : diverged_) {
    std::vector<Program> again(1);
    Lowering().lower(d.trace, again[0]);
    target_.prefetch(std::move(again));
    EXPECT_EQ(checker_.check(d.trace).divergence, d.result.divergence);
  }
}

TEST_F(BatchFuzzing, SeedsComeFirstAndFitted) {
  Trace seed;
  seed.machine.maxphyaddr = 52;
  seed.ops.push_back(make_op(Verb::kAccess));
  population_.add_seed(seed);
  plan_.batch = 1;
  plan_.fit = [](Trace& trace) { trace.machine.maxphyaddr = 40; };
  BatchFuzzer fuzzer(plan_, target_, checker_, population_);
  Trace kept;
  fuzzer.round(diverged_, [&](const Trace& trace) { kept = trace; });
  EXPECT_EQ(kept.ops, seed.ops);
  EXPECT_EQ(kept.machine.maxphyaddr, 40u);
}

TEST(Population, CountsStatesOnceAndBitsOnce) {
  Population population;
  const Trace trace;
  const ReachedState first[] = {{7, 0b011}, {9, 0b001}}, second[] = {{7, 0b110}};
  EXPECT_EQ(population.learn(trace, true, first), 3u);
  EXPECT_EQ(population.learn(trace, true, second), 1u);
  EXPECT_EQ(population.learn(trace, true, second), 0u);
  EXPECT_EQ(population.states(), 2u);
  EXPECT_EQ(population.size(), 2u);
}

TEST(Population, WhatIsNotWorthChangingIsNotPicked) {
  Population population;
  const ReachedState reached[] = {{1, 1}};
  EXPECT_EQ(population.learn({}, false, reached), 1u);
  Rng rng(1);
  Trace out;
  EXPECT_FALSE(population.pick(rng, out));
  EXPECT_EQ(population.states(), 1u);
}

}  // namespace
}  // namespace twinwalk::fuzz
