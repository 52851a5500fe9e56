#include "fuzzers/batch_fuzzer.h"

#include <utility>

namespace twinwalk::fuzz {

BatchFuzzer::BatchFuzzer(const BatchPlan& plan, BatchTarget& target, Checker& checker,
                         Population& population)
    : plan_(plan),
      target_(target),
      checker_(checker),
      population_(population),
      mutator_(*plan.config),
      rng_(plan.seed),
      traces_(plan.batch),
      seeds_(plan.batch) {}

// Some inputs are always new, so that what the population has not got can be found, too.
void BatchFuzzer::make(Trace& out, bool& is_seed) {
  is_seed = population_.take_seed(out);
  if (!is_seed) {
    const std::uint32_t choice = rng_.below(16);
    if (choice < 4 || !population_.pick(rng_, out)) {
      mutator_.generate(rng_, plan_.most_ops, out);
    } else if (choice < 8 && population_.pick(rng_, other_)) {
      const Trace first = std::move(out);
      mutator_.cross(rng_, plan_.most_ops, first, other_, out);
    } else {
      for (unsigned left = 1u << rng_.below(6); left != 0; --left)
        mutator_.mutate(rng_, plan_.most_ops, out);
    }
    grow(out);
  }
  plan_.config->constrain(out);
  if (plan_.fit) plan_.fit(out);
}

void BatchFuzzer::grow(Trace& out) {
  while (out.ops.size() < plan_.least_ops) {
    if (rng_.flip() || !population_.pick(rng_, other_))
      mutator_.generate(rng_, plan_.most_ops, other_);
    out.ops.insert(out.ops.end(), other_.ops.begin(), other_.ops.end());
  }
  if (out.ops.size() > plan_.most_ops) out.ops.resize(plan_.most_ops);
}

BatchCounts BatchFuzzer::round(std::vector<Diverged>& diverged,
                               const std::function<void(const Trace&)>& on_new) {
  std::vector<Program> programs(traces_.size());
  for (std::size_t i = 0; i < traces_.size(); ++i) {
    bool is_seed = false;
    make(traces_[i], is_seed);
    seeds_[i] = is_seed ? 1 : 0;
    lowering_.lower(traces_[i], programs[i]);
  }
  target_.prefetch(std::move(programs));
  BatchCounts counts;
  for (std::size_t i = 0; i < traces_.size(); ++i) {
    const Trace& trace = traces_[i];
    ResultLine line;
    bool have_line = !plan_.line;
    const CheckResult result = checker_.check(trace, [&](const CheckEvent& event) {
      if (have_line || event.known || event.verdict.kind != VerdictKind::kDiverge) return;
      have_line = true;
      line = plan_.line(checker_, event);
    });
    ++counts.execs;
    counts.ops += result.steps - result.skip;
    counts.checks += result.checks;
    counts.skipped += result.skip;
    counts.known += result.known;
    reached_.clear();
    if (result.executed) target_.append_reached(reached_);
    const bool agrees = result.divergence == DivergenceClass::kNone;
    const bool worth = agrees && (plan_.steered || seeds_[i] != 0);
    const unsigned fresh = population_.learn(trace, worth, reached_);
    counts.news += fresh;
    if (!agrees) {
      ++counts.divergences;
      diverged.push_back({trace, result, plan_.name ? plan_.name(checker_, result) : "", line});
    } else if (fresh != 0 && on_new) {
      on_new(trace);
    }
  }
  return counts;
}

}  // namespace twinwalk::fuzz
