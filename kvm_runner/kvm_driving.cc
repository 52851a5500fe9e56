// Which way of driving the guest is the faster one on this host: measured, once a subject.

#include <algorithm>

#include "harness/trace/program.h"
#include "harness/trace/schema.h"
#include "kvm_runner/kvm_subject.h"

namespace twinwalk::kvm {
namespace {

// What programs are made of: entries written and invalidated, accesses of both rings, a fault. The
// steps, that is, that may be batched; all others cost the same both ways.
Program usual_program(Vendor vendor, unsigned maxphyaddr, std::uint32_t features) {
  Trace trace;
  trace.machine.vendor = vendor;
  trace.machine.features &= features;
  trace.machine.maxphyaddr =
      static_cast<std::uint8_t>(std::min<unsigned>(trace.machine.maxphyaddr, maxphyaddr));
  const auto add = [&](Verb verb, std::uint64_t gva) -> Op& {
    Op op = make_op(verb);
    op.gva = gva;
    return trace.ops.emplace_back(op);
  };
  const auto access = [&](AccessKind kind, std::uint64_t gva, std::uint64_t cpl) {
    Op& op = add(Verb::kAccess, gva);
    op.kind = static_cast<std::uint64_t>(kind);
    op.cpl = cpl;
    op.given |= kCplGiven;
  };
  constexpr std::uint64_t kGva = 0x40'0000, kRounds = 16;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    add(Verb::kMap, kGva).gpa = 0x5000 + 0x1000 * (round % 4);
    add(Verb::kInvlpg, kGva);
    access(AccessKind::kRead, kGva, 3);
    access(AccessKind::kWrite, kGva + 8, 0);
    access(AccessKind::kWrite, kGva + 16, 3);
    access(AccessKind::kRead, kGva + kPage, 0);
  }
  Program program;
  Lowering lowering;
  lowering.lower(trace, program);
  return program;
}

}  // namespace

double KvmSubject::microseconds_a_step(const Program& program, Driving driving) {
  OutcomeStream out;
  drive(driving);
  run(program, out);
  return steps_took_.count() / static_cast<double>(program.steps.size());
}

// The least of some turns each, so that what else the machine does counts for little. A batch that
// fails is run again without, so it is never the faster way.
KvmPace KvmSubject::measure_pace() {
  constexpr int kTurns = 3;
  const Program program = usual_program(host_.vendor(), host_.maxphyaddr(), host_.features());
  const Driving before = driving_;
  microseconds_a_step(program, Driving::kAlone);  // memory is seeded once a process
  KvmPace pace{1e9, 1e9};
  for (int turn = 0; turn < kTurns; ++turn) {
    pace.alone_us = std::min(pace.alone_us, microseconds_a_step(program, Driving::kAlone));
    pace.batched_us = std::min(pace.batched_us, microseconds_a_step(program, Driving::kBatched));
  }
  drive(before);
  driven_ = {};
  return pace;
}

}  // namespace twinwalk::kvm
