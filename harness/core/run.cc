#include "harness/core/run.h"

namespace twinwalk {
namespace {

void skip(std::size_t first, std::size_t end, SkipReason reason, OutcomeStream& out) {
  for (std::size_t i = first; i < end; ++i) {
    out.steps[i] = Outcome{};
    out.steps[i].kind = OutcomeKind::kSkip;
    out.steps[i].reason = reason;
  }
}

// The vCPUs, as bits, that have to be outside of the core for that operation.
std::uint32_t vcpus_of(const Op& op) {
  switch (op.verb) {
    case Verb::kMov:
    case Verb::kAccess:
    case Verb::kInvlpg:
    case Verb::kInvpcid:
    case Verb::kInvlpga:
    case Verb::kGet:
    case Verb::kSmm:
    case Verb::kInit:
    case Verb::kSregs:
    case Verb::kNewVcpu:
    case Verb::kPrefault:
    case Verb::kVmEnter:
    case Verb::kVmExit:
    case Verb::kInvept:
    case Verb::kInvvpid:
    case Verb::kPmlGet:
      return 1u << op.vcpu;
    case Verb::kWrite:
      return op.writer() == Writer::kGuest ? 1u << op.vcpu : 0;
    case Verb::kCpuid:
      return (1u << kMaxVcpus) - 1;
    default:
      return 0;  // the host's own
  }
}

}  // namespace

void CoreRun::run(const Program& program, OutcomeStream& out) {
  out.clear();
  out.steps.resize(program.steps.size());
  current_ = 0;
  complaints_.clear();
  machine_ = program.machine;
  slots_.reset(machine_.memory_bytes(), shared_bit(machine_));
  const SkipReason reason = prepare(machine_);
  if (reason != SkipReason::kNone) return skip(0, out.steps.size(), reason, out);
  const bool ended = trap_.run([&] {
    start();
    run_steps(program, out);
    tear_down(out);
  });
  if (!ended) stop(out);
  after_run(!ended);
}

void CoreRun::start() {
  interleaver_.reset();
  readers_.reset();
  swap_out(0, 0);
  core_.create(*this, machine_, options_.state_counters);
  started(core_.vm());
  steps_.reset();
  steps_.set_overlapping(false);
}

void CoreRun::run_steps(const Program& program, OutcomeStream& out) {
  program_ = &program;
  out_ = &out;
  overlaps_ = false;
  steps_.take_core_ran();
  bool due = options_.audit;  // once for what the start made
  std::size_t watched = options_.watch != nullptr ? 0 : StepWatch::kNoStep;
  while (current_ < program.steps.size()) {
    if (current_ >= watched) watched = options_.watch->reached(current_);
    Outcome& outcome = out.steps[current_];
    const std::size_t end = run_group();
    due |= steps_.take_core_ran();
    if (due && options_.audit) core_.vm().audit(complaints_);
    due = false;
    collect(out, outcome);
    current_ = end;
  }
  if (current_ >= watched) options_.watch->reached(current_);
}

// The step at hand, with those that run inside it. Returns the one after them.
std::size_t CoreRun::run_group() {
  const Op& op = program_->steps[current_].what;
  const std::size_t end = interleaver_.begin(*program_, current_);
  if (end == current_ + 1) {
    if (overlaps_) note_begin(current_);
    steps_.execute(op, out_->steps[current_], *out_);
    if (overlaps_) note_end(current_);
    return end;
  }
  if (!overlaps_) begin_overlaps();
  steps_.set_overlapping(true);
  const std::uint32_t vcpus = vcpus_of(op);
  interleaver_.enter_vcpus(vcpus);
  note_begin(current_);
  steps_.execute(op, out_->steps[current_], *out_);
  note_end(current_);
  interleaver_.leave_vcpus(vcpus);
  interleaver_.finish();
  steps_.set_overlapping(false);
  return end;
}

// From now on it matters when steps begin and end.
void CoreRun::begin_overlaps() {
  overlaps_ = true;
  out_->begun.assign(program_->steps.size(), kNeverBegun);
  for (std::size_t i = 0; i < current_; ++i) {
    note_begin(i);
    note_end(i);
  }
}

// A vCPU does one thing at a time: what is asked of one that is busy waits until it is not.
void CoreRun::run_inside(std::size_t step) {
  const Op& op = program_->steps[step].what;
  Outcome& outcome = out_->steps[step];
  const std::uint32_t vcpus = vcpus_of(op);
  while (interleaver_.any_inside(vcpus)) {
    if (interleaver_.pause()) continue;
    skip(step, step + 1, SkipReason::kInterleavingNotSupported, *out_);
    return;
  }
  interleaver_.enter_vcpus(vcpus);
  note_begin(step);
  steps_.execute(op, outcome, *out_);
  interleaver_.leave_vcpus(vcpus);
  note_end(step);
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
  skip(current_, out.steps.size(), SkipReason::kSubjectStopped, out);
  collect(out, current_ < out.steps.size() ? out.steps[current_] : out.steps.back());
}

void CoreRun::collect(OutcomeStream& out, Outcome& outcome) {
  add_complaints();
  complaints_.move_to(out, outcome);
}

void CoreRun::give_back(const Readers::Freed& freed) {
  if (freed.object == nullptr) {
    free_table(freed.table);
  } else {
    free_object(freed.object, freed.size);
  }
}

void CoreRun::end_reading() {
  readers_.end(interleaver_.context(), [this](const Readers::Freed& freed) { give_back(freed); });
}

void CoreRun::free_table_after_readers(mmu::Hpa hpa) {
  Readers::Freed freed;
  freed.table = hpa;
  if (!readers_.defer(freed)) free_table(hpa);
}

void CoreRun::free_object_after_readers(void* object, mmu::u64 size) {
  Readers::Freed freed;
  freed.object = object;
  freed.size = size;
  if (!readers_.defer(freed)) free_object(object, size);
}

void CoreRun::panic(const char* why) {
  complaints_.add(Complaint::kTrap, why);
  if (interleaver_.context() != 0) interleaver_.leave_for_good();
  trap_.spring();
}

}  // namespace twinwalk
