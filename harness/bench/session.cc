#include "harness/bench/session.h"

#include "harness/bench/measure.h"

namespace twinwalk::bench {
namespace {

CoreSubjectOptions options(bool audit, StepWatch* watch) {
  CoreSubjectOptions options;
  options.audit = audit;
  options.watch = watch;
  return options;
}

}  // namespace

Session::Session(bool audit) : core_(make_core_subject(options(audit, this))) {}

void Session::run(const Program& program) { core_->run(program, out_); }

void Session::run_and_judge(const Program& program) {
  core_->run(program, out_);
  spec_.reset(program.machine, core_->info().profile);
  judge(program, 0, program.steps.size());
}

double Session::time_from(std::size_t first, const Program& program) {
  first_ = first;
  end_ = program.steps.size();
  core_->run(program, out_);
  first_ = end_ = kNoStep;
  spec_.reset(program.machine, core_->info().profile);
  judge(program, 0, first);
  const std::uint64_t start = cpu_now_ns();
  judge(program, first, program.steps.size());
  return static_cast<double>(core_ns_ + (cpu_now_ns() - start));
}

std::size_t Session::reached(std::size_t step) {
  if (step == end_) core_ns_ = cpu_now_ns() - started_ns_;
  if (step != first_) return step < first_ ? first_ : kNoStep;
  started_ns_ = cpu_now_ns();
  return end_;
}

void Session::judge(const Program& program, std::size_t first, std::size_t end) {
  for (std::size_t i = first; i < end; ++i) {
    spec_.judge(static_cast<std::uint32_t>(i), program.steps[i], out_.steps[i], out_.extra.data(),
                verdict_);
    if (verdict_.kind == VerdictKind::kDiverge) ++divergences_;
  }
}

double beyond_ns(unsigned repeats, std::uint64_t count, const std::function<void()>& whole,
                 const std::function<void()>& part) {
  const Pair pair = best_pair(repeats, count, whole, part);
  return pair.value_ns - pair.limit_ns;
}

}  // namespace twinwalk::bench
