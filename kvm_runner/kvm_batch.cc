// Batches of subject `kvm`: as many steps as may go together are planned, run in the guest in one
// go, and then told one by one, as if each had been alone.

#include <algorithm>

#include "kvm_runner/kvm_subject.h"
#include "kvm_runner/step_limits.h"

namespace twinwalk::kvm {
namespace {

constexpr std::size_t kLeastWorthwhile = 2;
constexpr std::uint64_t kFlags = pte::kA | pte::kD;

std::uint64_t word_at(std::uint64_t address) { return address & ~std::uint64_t{7}; }

}  // namespace

void KvmSubject::begin_batch() {
  planned_.clear();
  calls_.clear();
  words_.clear();
  foretold_.clear();
}

// Runs as many steps from `first` on as may go together; how many, 0 if not even two may.
std::size_t KvmSubject::run_batch(const Program& program, std::size_t first, OutcomeStream& out) {
  begin_batch();
  const auto before = registers_;
  const std::uint8_t vcpu = program.steps[first].what.vcpu;
  for (std::size_t i = first; i < program.steps.size(); ++i) {
    const Op& op = program.steps[i].what;
    if (op.vcpu != vcpu || !plan(op, i)) break;
  }
  foretold_.clear();
  if (calls_.size() < kLeastWorthwhile) {
    registers_ = before;
    return 0;
  }
  ++driven_.batches;
  driven_.batched += planned_.size();
  batch_failed_ = !vm_->run_batch(vcpu, calls_, words_, exits_) || !memory_.planted_intact();
  const std::uint64_t* words = words_.data();
  std::size_t call = 0;
  for (Planned& planned : planned_) {
    if (batch_failed_) return 0;
    Outcome outcome;
    if (planned.calls) {
      batch_failed_ = !conclude(program.steps[planned.step].what, planned, calls_[call],
                                exits_[call], words, outcome);
      words += calls_[call].before + calls_[call].after;
      ++call;
    }
    out.steps.push_back(outcome);
  }
  return batch_failed_ ? 0 : planned_.size();
}

// Adds the step to the batch. False, and nothing of it added, if it has to begin another, or to be
// alone.
bool KvmSubject::plan(const Op& op, std::size_t index) {
  if (calls_.size() == kMostBatched) return false;
  const Registers now = op.vcpu < machine_.vcpus ? registers(op) : Registers{};
  if (!may_be_batched(op, machine_, now)) return false;
  if (why_not(op, machine_, now, host_) != SkipReason::kNone) return false;
  Planned planned;
  planned.step = index;
  Registers after = now;
  if (op.verb == Verb::kMov) adopt_register(op, after);
  planned.calls = op.verb != Verb::kMov || op.reg() == Reg::kCr3;
  Vm::BatchedCall call{{Stub::kWriteCr3, op.value, 0, 0, now.ac}};
  if (planned.calls && !(plan_root(op.vcpu, now) && plan_root(op.vcpu, after))) return false;
  switch (op.verb) {
    case Verb::kAccess:
      if (!plan_access(op, planned, call)) return false;
      break;
    case Verb::kWrite:
      if (!plan_store(op, call)) return false;
      break;
    case Verb::kGet:
      call.call.stub = read_stub(op.reg());
      break;
    case Verb::kInvlpg:
      call.call.stub = Stub::kInvlpg;
      call.call.rdi = op.gva;
      break;
    case Verb::kInvpcid:
      call.call.stub = Stub::kInvpcid;
      call.call.rdi = op.type;
      call.descriptor[0] = op.pcid;
      call.descriptor[1] = op.gva;
      break;
    default:
      break;
  }
  if (planned.calls) calls_.push_back(call);
  planned_.push_back(std::move(planned));
  registers(op) = after;
  return true;
}

// Planting an entry of the runner's hides a word of the trace's: not before its time.
bool KvmSubject::plan_root(unsigned vcpu, const Registers& r) {
  const Mode mode = mode_of(r.cr0, r.cr4, r.efer);
  if (memory_.has_planted(mode, root_of(r))) return !never_walks(mode, root_of(r));
  return calls_.empty() && plant_for(vcpu, r);
}

bool KvmSubject::plan_access(const Op& op, Planned& planned, Vm::BatchedCall& call) {
  planned.halves = split(op);
  const Halves& halves = planned.halves;
  for (unsigned i = 0; i < halves.count; ++i) {
    if (!foretold_.knows(halves.half[i].walk)) return false;
  }
  if (why_not_access(op, halves) != SkipReason::kNone) return false;
  if (op.access() == AccessKind::kRead) {  // a later store may land where this one does
    for (unsigned i = 0; i < halves.count; ++i) remember_landing(op, halves.half[i]);
  } else {
    collect_candidates(op, halves, planned.candidates);
  }
  call.call = access_call(op, halves);
  if (!plan_words(planned, call, registers(op))) return false;
  // What comes later cannot know what is there now.
  for (const Candidate& c : planned.candidates)
    foretold_.may_store(c.offset, halves.half[c.half].size);
  return true;
}

// The words that tell where a store has landed, before and after; then the entries of the path.
bool KvmSubject::plan_words(Planned& planned, Vm::BatchedCall& call, const Registers& now) {
  const std::size_t begin = words_.size();
  const auto give_up = [&] { return words_.resize(begin), false; };
  const auto add = [&](std::uint64_t gpa) {
    const std::uint64_t window = window_of(gpa, false, now, true);
    if (window == kNoWindow || words_.size() == kMostBatchWords) return false;
    words_.push_back(window + (word_at(gpa) & (kPage - 1)));
    return true;
  };
  const Halves& halves = planned.halves;
  for (int round = 0; round < 2; ++round) {
    for (const Candidate& c : planned.candidates) {
      const std::uint64_t gpa = memory_.slots().gpa_of(c.offset);
      if (gpa == kUnknownGpa || memory_.is_planted(c.offset) || !add(gpa)) return give_up();
    }
  }
  call.before = static_cast<unsigned>(planned.candidates.size());
  call.after = call.before;
  for (unsigned i = 0; i < halves.count; ++i) {
    const GuestWalk& w = halves.half[i].walk;
    for (unsigned level = 0; level < w.path.count; ++level, ++call.after) {
      std::uint64_t offset = 0;
      if (!memory_.offset_of(w.at[level], offset) || !add(w.at[level])) return give_up();
      // A store to an entry of its own walk: the path afterwards is another.
      const bool own = std::any_of(
          planned.candidates.begin(), planned.candidates.end(), [&](const Candidate& c) {
            const std::uint64_t last = c.offset + halves.half[c.half].size - 1;
            return word_at(c.offset) == word_at(offset) || word_at(last) == word_at(offset);
          });
      if (own) return give_up();
    }
  }
  return true;
}

bool KvmSubject::plan_store(const Op& op, Vm::BatchedCall& call) {
  const std::uint64_t window = can_store(op) ? window_of(op.gpa, false, registers(op)) : kNoWindow;
  if (window == kNoWindow) return false;
  call.call = store_call(op, window);
  const Slot* slot = memory_.slots().find(op.gpa);
  if (slot == nullptr || slot->read_only) return true;
  foretold_.will_store(slot->offset + (op.gpa - slot->gpa), static_cast<unsigned>(op.size),
                       op.value);
  return true;
}

// What the step came to; false if it did not go as foretold.
bool KvmSubject::conclude(const Op& op, Planned& planned, const Vm::BatchedCall& call,
                          const StubExit& exit, const std::uint64_t* words, Outcome& out) {
  switch (op.verb) {
    case Verb::kMov:
      return exit.kind == StubExit::Kind::kDone;
    case Verb::kWrite:
      if (exit.kind != StubExit::Kind::kDone) return false;
      conclude_store(exit, out);
      return true;
    case Verb::kGet:
      conclude_get(op, exit, out);
      break;
    case Verb::kAccess: {
      auto& candidates = planned.candidates;
      for (std::size_t i = 0; i < candidates.size(); ++i) {
        candidates[i].before = words[i];
        candidates[i].after = words[call.before + i];
      }
      conclude_access(op, planned.halves, candidates, exit, out);
      if (out.kind == OutcomeKind::kSkip || out.kind == OutcomeKind::kGp) break;
      const std::uint64_t* entry = words + call.before + candidates.size();
      for (unsigned i = 0; i < planned.halves.count; ++i) {
        const Path& path = planned.halves.half[i].walk.path;
        out.path[i].count = path.count;
        for (unsigned level = 0; level < path.count; ++level, ++entry) {
          if (((*entry ^ path.entry[level]) & ~kFlags) != 0) return false;
          out.path[i].entry[level] = *entry;
        }
      }
      break;
    }
    default:
      settle(exit, out);
      break;
  }
  return !stopped_;
}

}  // namespace twinwalk::kvm
