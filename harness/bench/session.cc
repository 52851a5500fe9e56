#include "harness/bench/session.h"

#include "harness/bench/measure.h"

namespace twinwalk::bench {
namespace {

CoreSubjectOptions options(bool audit) {
  CoreSubjectOptions options;
  options.audit = audit;
  return options;
}

}  // namespace

Session::Session(bool audit) : core_(make_core_subject(options(audit))) {}

void Session::run(const Program& program) { core_->run(program, out_); }

void Session::run_and_judge(const Program& program) {
  core_->run(program, out_);
  spec_.reset(program.machine, core_->info().profile);
  for (std::uint32_t i = 0; i < program.steps.size(); ++i) {
    spec_.judge(i, program.steps[i], out_.steps[i], out_.extra.data(), verdict_);
    if (verdict_.kind == VerdictKind::kDiverge) ++divergences_;
  }
}

double beyond_ns(unsigned repeats, std::uint64_t count, const std::function<void()>& whole,
                 const std::function<void()>& part) {
  const Pair pair = best_pair(repeats, count, whole, part);
  return pair.value_ns - pair.limit_ns;
}

}  // namespace twinwalk::bench
