#ifndef TWINWALK_FUZZERS_BATCH_FUZZER_H_
#define TWINWALK_FUZZERS_BATCH_FUZZER_H_

// Fuzzing of a subject that is far away: an engine that waits for each input before it makes the
// next would mostly wait. So inputs are made a batch at a time, and what they reached steers the
// batches after.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fuzzers/mutator.h"
#include "fuzzers/population.h"
#include "harness/checker.h"
#include "harness/fuzzing/config.h"
#include "harness/trace/result_line.h"

namespace twinwalk::fuzz {

// A subject that takes many programs at once and says what they reach.
class BatchTarget {
 public:
  virtual ~BatchTarget() = default;
  virtual Subject& subject() = 0;
  // The next runs of subject() are these programs, in this order, some perhaps left out.
  virtual void prefetch(std::vector<Program> programs) = 0;
  // What the last run of subject() reached, or as much of it as may be new. Appends.
  virtual void append_reached(std::vector<ReachedState>& out) = 0;
};

struct BatchPlan {
  const Config* config = nullptr;
  // Makes a trace one that the subject's host can run, as far as its machine decides that.
  std::function<void(Trace&)> fit;
  // What tells one finding from another; of the checker's last check, which diverged.
  std::function<std::string(const Checker&, const CheckResult&)> name;
  // What is kept of the first divergence of a trace, while it is looked at.
  std::function<ResultLine(const Checker&, const CheckEvent&)> line;
  std::uint64_t seed = 1;
  std::size_t batch = 32;  // programs
  // False: what is reached is counted, but nothing besides the seeds is changed further. The
  // control by which steering is measured.
  bool steered = true;
  // A trace: a program there costs as much as many of its steps. Seeds are taken as they are.
  std::size_t least_ops = 64, most_ops = 128;
};

struct BatchCounts {
  // ops: steps that ran
  std::uint64_t execs = 0, ops = 0, checks = 0, skipped = 0, known = 0, divergences = 0, news = 0;
};

struct Diverged {
  Trace trace;
  CheckResult result;
  std::string name;  // BatchPlan::name
  ResultLine line;   // BatchPlan::line
};

class BatchFuzzer {
 public:
  // All must outlive it. `checker` judges target.subject().
  BatchFuzzer(const BatchPlan& plan, BatchTarget& target, Checker& checker, Population& population);

  // One batch, made, run, judged and learned from. What diverged is appended, and not changed
  // further; what else reached something new goes to `on_new`, too.
  BatchCounts round(std::vector<Diverged>& diverged,
                    const std::function<void(const Trace&)>& on_new = {});

 private:
  void make(Trace& out, bool& is_seed);
  // More of the same kind behind what is there, up to `least_ops`.
  void grow(Trace& out);

  const BatchPlan& plan_;
  BatchTarget& target_;
  Checker& checker_;
  Population& population_;
  Mutator mutator_;
  Rng rng_;
  Lowering lowering_;
  Trace other_;
  std::vector<Trace> traces_;
  std::vector<std::uint8_t> seeds_;  // 1: that one of traces_ is a seed
  std::vector<ReachedState> reached_;
};

}  // namespace twinwalk::fuzz

#endif  // TWINWALK_FUZZERS_BATCH_FUZZER_H_
