#include "harness/core/run.h"

namespace twinwalk {
namespace {

void skip_from(std::size_t first, SkipReason reason, OutcomeStream& out) {
  for (std::size_t i = first; i < out.steps.size(); ++i) {
    out.steps[i] = Outcome{};
    out.steps[i].kind = OutcomeKind::kSkip;
    out.steps[i].reason = reason;
  }
}

}  // namespace

void CoreRun::run(const Program& program, OutcomeStream& out) {
  out.clear();
  out.steps.resize(program.steps.size());
  current_ = 0;
  complaints_.clear();
  machine_ = program.machine;
  slots_.reset(machine_.memory_bytes());
  const SkipReason reason = prepare(machine_);
  if (reason != SkipReason::kNone) return skip_from(0, reason, out);
  const bool ended = trap_.run([&] {
    start();
    run_steps(program, out);
    tear_down(out);
  });
  if (!ended) stop(out);
  after_run(!ended);
}

void CoreRun::start() {
  locked_[0] = locked_[1] = false;
  core_.create(*this, machine_, options_.state_counters);
}

void CoreRun::run_steps(const Program& program, OutcomeStream& out) {
  steps_.take_core_ran();
  bool due = options_.audit;  // once for what the start made
  std::size_t watched = options_.watch != nullptr ? 0 : StepWatch::kNoStep;
  for (; current_ < program.steps.size(); ++current_) {
    if (current_ == watched) watched = options_.watch->reached(current_);
    Outcome& outcome = out.steps[current_];
    steps_.execute(program.steps[current_].what, outcome, out);
    due |= steps_.take_core_ran();
    if (due && options_.audit) core_.vm().audit(complaints_);
    due = false;
    collect(out, outcome);
  }
  if (current_ == watched) options_.watch->reached(current_);
}

// Nothing may be left behind.
void CoreRun::tear_down(OutcomeStream& out) {
  before_tear_down();
  core_.destroy();
  if (live_tables() != 0)
    complaints_.add(Complaint::kAuditLeak, "page tables are left after the VM was destroyed");
  if (live_objects() != 0)
    complaints_.add(Complaint::kAuditLeak, "objects are left after the VM was destroyed");
  if (!out.steps.empty()) collect(out, out.steps.back());
}

// After a panic. In the tear-down every step has been done, and what it did stands.
void CoreRun::stop(OutcomeStream& out) {
  core_.abandon();
  if (out.steps.empty()) return;
  skip_from(current_, SkipReason::kSubjectStopped, out);
  collect(out, current_ < out.steps.size() ? out.steps[current_] : out.steps.back());
}

void CoreRun::collect(OutcomeStream& out, Outcome& outcome) {
  add_complaints();
  complaints_.move_to(out, outcome);
}

void CoreRun::lock(mmu::LockId id) {
  const auto n = static_cast<unsigned>(id);
  if (locked_[n]) panic("a lock is taken twice");
  locked_[n] = true;
}

void CoreRun::unlock(mmu::LockId id) {
  const auto n = static_cast<unsigned>(id);
  if (!locked_[n]) panic("a lock is given back that is not held");
  locked_[n] = false;
}

void CoreRun::panic(const char* why) {
  complaints_.add(Complaint::kTrap, why);
  trap_.spring();
}

}  // namespace twinwalk
