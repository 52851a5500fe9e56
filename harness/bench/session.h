#ifndef TWINWALK_HARNESS_BENCH_SESSION_H_
#define TWINWALK_HARNESS_BENCH_SESSION_H_

// Core and reference as the fuzz loop holds them, with programs run on the one or on both.

#include <cstdint>
#include <functional>
#include <memory>

#include "harness/core_subject.h"
#include "harness/trace/program.h"
#include "oracle/spec.h"

namespace twinwalk::bench {

class Session final : private StepWatch {
 public:
  explicit Session(bool audit = false);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void run(const Program& program);            // the core alone
  void run_and_judge(const Program& program);  // and the reference on every outcome
  // The same; nanoseconds of CPU time that core and reference took for the steps from `first` on.
  double time_from(std::size_t first, const Program& program);
  // Divergences seen by run_and_judge since the session began. A benchmark of a wrong core says
  // nothing.
  std::uint64_t divergences() const { return divergences_; }

 private:
  std::size_t reached(std::size_t step) override;
  void judge(const Program& program, std::size_t first, std::size_t end);

  std::unique_ptr<Subject> core_;
  oracle::Spec spec_;
  OutcomeStream out_;
  Verdict verdict_;
  std::uint64_t divergences_ = 0;
  // Of time_from: the step at which the clock starts, when it did, and what the core took from
  // there.
  std::size_t first_ = kNoStep, end_ = kNoStep;
  std::uint64_t started_ns_ = 0, core_ns_ = 0;
};

// Nanoseconds of CPU time that `whole` takes beyond `part`, for each of `count` units: the cost of
// what only `whole` does. By turns, best of `repeats` each. Not above zero if noise drowned it,
// which is no measurement.
double beyond_ns(unsigned repeats, std::uint64_t count, const std::function<void()>& whole,
                 const std::function<void()>& part);

}  // namespace twinwalk::bench

#endif  // TWINWALK_HARNESS_BENCH_SESSION_H_
