#include "harness/mutation/mutate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>

#include "harness/fuzzing/atomic_file.h"
#include "harness/fuzzing/core_build.h"
#include "harness/fuzzing/interrupts.h"
#include "harness/fuzzing/output.h"

namespace twinwalk::mutation {
namespace {

class Mutate {
 public:
  explicit Mutate(const MutateOptions& options)
      : options_(options), tree_(fuzz::work_folder("mutate")), suite_(tree_, plan_of(options)) {}

  int run() {
    std::string why;
    std::vector<Mutant> mutants = mutants_in(TWINWALK_SOURCE_DIR, options_.side, why);
    if (!why.empty()) return fail(why);
    std::erase_if(mutants, [&](const Mutant& m) { return !m.id().starts_with(options_.only); });
    if (mutants.empty()) return fail("no mutant whose id begins with '" + options_.only + "'");
    mutants = sample(std::move(mutants), options_.sample, options_.seed);
    if (options_.list) return print_list(mutants);
    why = fuzz::make_output(options_.out, output_);
    if (!why.empty()) return fail(why);
    std::fprintf(stderr, "building the tree as it is, and running its suite\n");
    why = tree_.prepare();
    if (why.empty()) why = suite_.prepare();
    if (!why.empty() && !fuzz::interrupted()) return fail(why);
    for (const Mutant& m : mutants) {
      if (fuzz::interrupted()) break;
      const MutantResult r = suite_.try_mutant(m);
      if (fuzz::interrupted()) break;  // says nothing
      why = r.error.empty() ? keep(r) : r.error;
      if (!why.empty()) return fail(why);
    }
    return finish();
  }

 private:
  static SuitePlan plan_of(const MutateOptions& options) {
    SuitePlan plan;
    plan.side = options.side;
    plan.seconds = options.seconds;
    plan.jobs = options.jobs ? options.jobs : std::max(1u, std::thread::hardware_concurrency());
    plan.seed = options.seed;
    return plan;
  }

  static int fail(const std::string& why) {
    std::fprintf(stderr, "twinwalk mutate: %s\n", why.c_str());
    return 2;
  }

  static int print_list(const std::vector<Mutant>& mutants) {
    for (const Mutant& m : mutants) std::printf("%s\n", m.id().c_str());
    return 0;
  }

  // Each line as soon as it is known, so that a run that is killed loses none.
  std::string keep(const MutantResult& r) {
    score_.add(r.fate);
    const std::string line = to_json(r);
    std::printf("%s\n", options_.json ? line.c_str() : story_of(r).c_str());
    std::fflush(stdout);
    lines_ += line + '\n';
    return fuzz::write_atomically(output_.root + "/mutants.jsonl", std::string_view(lines_));
  }

  int finish() {
    std::string why = tree_.put_nothing();
    const std::string line = to_json(score_, options_.side, bound_);
    lines_ += line + '\n';
    if (why.empty())
      why = fuzz::write_atomically(output_.root + "/mutants.jsonl", std::string_view(lines_));
    if (!why.empty()) return fail(why);
    if (options_.json) {
      std::printf("%s\n", line.c_str());
    } else {
      std::printf("%u killed, %u survived: %.1f %% (bound: %g %%); %u equivalent, %u invalid\n%s\n",
                  score_.killed, score_.survived, score_.percent(), bound_, score_.equivalent,
                  score_.invalid, (output_.root + "/mutants.jsonl").c_str());
    }
    if (fuzz::interrupted()) {
      std::fprintf(stderr, "twinwalk mutate: interrupted\n");
      return 1;
    }
    if (score_.killed + score_.survived == 0)
      return fail("none of the sample is a program of its own");
    return score_.percent() >= bound_ ? 0 : 1;
  }

  const MutateOptions& options_;
  double bound_ = options_.bound.value_or(default_bound(options_.side));
  MutantTree tree_;
  Suite suite_;
  fuzz::Output output_;
  Score score_;
  std::string lines_;
};

}  // namespace

double default_bound(Side side) { return side == Side::kCore ? 80 : 50; }

void Score::add(Fate fate) {
  switch (fate) {
    case Fate::kKilled:
      ++killed;
      break;
    case Fate::kSurvived:
      ++survived;
      break;
    case Fate::kEquivalent:
      ++equivalent;
      break;
    case Fate::kInvalid:
      ++invalid;
      break;
  }
}

double Score::percent() const {
  return killed + survived == 0 ? 0 : 100.0 * killed / (killed + survived);
}

std::string to_json(const MutantResult& r) {
  nlohmann::ordered_json j;
  j["mutant"] = r.mutant.id();
  j["file"] = r.mutant.file;
  j["line"] = r.mutant.line;
  j["change"] = r.mutant.change;
  j["was"] = r.mutant.was;
  j["now"] = r.mutant.now;
  j["fate"] = name_of(r.fate);
  j["by"] = r.by;
  j["how"] = r.how;
  return j.dump();
}

std::string to_json(const Score& score, Side side, double bound) {
  nlohmann::ordered_json j;
  j["side"] = side == Side::kCore ? "core" : "oracle";
  j["mutants"] = score.killed + score.survived + score.equivalent + score.invalid;
  j["killed"] = score.killed;
  j["survived"] = score.survived;
  j["equivalent"] = score.equivalent;
  j["invalid"] = score.invalid;
  j["score"] = score.percent();
  j["bound"] = bound;
  return nlohmann::ordered_json{{"summary", j}}.dump();
}

std::string story_of(const MutantResult& r) {
  std::string what = fmt::format("{:<10} {}", name_of(r.fate), r.mutant.id());
  if (r.fate == Fate::kKilled) return fmt::format("{} by {}: {}", what, r.by, r.how);
  if (r.fate != Fate::kSurvived) return what;
  return fmt::format("{}\n           `{}` -> `{}`", what, r.mutant.was, r.mutant.now);
}

int run_mutate(const MutateOptions& options) {
  const fuzz::Interrupts handlers;
  return Mutate(options).run();
}

}  // namespace twinwalk::mutation
