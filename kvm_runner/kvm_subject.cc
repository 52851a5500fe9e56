#include "kvm_runner/kvm_subject.h"

#include <algorithm>

#include "harness/trace/content.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/step_limits.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::kvm {

bool KvmSubject::open(std::string& why) {
  if (!host_.open(why) || !memory_.open(why)) return false;
  info_ = {
      "kvm", host_.version(), host_.shadows() ? Profile::kKvmOnProcessor : Profile::kArchitecture,
      true,  host_.vendor(),  {}};
  return true;
}

// A VM for the program. False if the host cannot be that machine.
bool KvmSubject::start(const Machine& machine, std::string& why) {
  vm_.reset();
  machine_ = machine;
  registers_.fill(initial_registers(machine));
  for (auto& bitmap : dirty_) bitmap.clear();
  lender_.reset();
  if (machine.vendor != host_.vendor()) return why = "the host is of another vendor", false;
  if (machine.maxphyaddr > host_.maxphyaddr())
    return why = "the host has a smaller MAXPHYADDR", false;
  if (machine.has(feature::kNx) && (host_.features() & feature::kNx) == 0)
    return why = "no NX", false;
  if (!memory_.reset(machine)) return why = "more guest memory than is kept seeded", false;
  if (!memory_.plant(kInitialCr3)) return why = "no initial root", false;
  vm_ = Vm::create(host_, machine, registers_[0], why);
  return vm_ != nullptr && apply_slot(0, memory_.slots()[0]) == 0;
}

void KvmSubject::run(const Program& program, OutcomeStream& out) {
  out.clear();
  stream_ = &out;
  std::string why;
  const bool started = start(program.machine, why);
  stopped_ = false;
  image_valid_ = started;
  for (const Step& s : program.steps) {
    Outcome outcome;
    if (!started) {
      skip(outcome, SkipReason::kHostLacksFeature);
    } else if (stopped_) {
      skip(outcome, SkipReason::kSubjectStopped);
    } else {
      step(s.what, outcome);
    }
    out.steps.push_back(outcome);
  }
  vm_.reset();
}

bool KvmSubject::read_image(std::uint64_t gpa, std::uint64_t& word) const {
  return image_valid_ && memory_.read_word(gpa, word);
}

void KvmSubject::skip(Outcome& out, SkipReason reason) {
  out = {};
  out.kind = OutcomeKind::kSkip;
  out.reason = reason;
}

void KvmSubject::stop(Outcome& out, Complaint complaint, const std::string& text) {
  skip(out, SkipReason::kSubjectStopped);
  out.complaint = complaint;
  if (stream_->complaint_text.empty()) stream_->complaint_text = text;
  stopped_ = true;
  image_valid_ = false;
}

void KvmSubject::step(const Op& op, Outcome& out) {
  const unsigned known_vcpu = op.vcpu < machine_.vcpus ? op.vcpu : 0;
  const SkipReason reason = why_not(op, machine_, registers_[known_vcpu], host_.features());
  if (reason != SkipReason::kNone) return skip(out, reason);
  switch (op.verb) {
    case Verb::kMov:
      return mov(op, out);
    case Verb::kWrite:
      return op.writer() == Writer::kHost ? host_store(op, out) : guest_store(op, out);
    case Verb::kAccess:
      return access(op, out);
    case Verb::kInvlpg:
      return invlpg(op, out);
    case Verb::kInvpcid:
      return invpcid(op, out);
    case Verb::kSlotAdd:
      return slot_add(op, out);
    case Verb::kSlotDelete:
      return slot_delete(op, out);
    case Verb::kSlotMove:
      return slot_move(op, out);
    case Verb::kSlotFlags:
      return slot_flags(op, out);
    case Verb::kInvalidate:
    case Verb::kRemap:
    case Verb::kProtect:
      return change_backing(op, out);
    case Verb::kDirtyGet:
      return dirty_get(op, out);
    case Verb::kZapAll:
      return vm_->zap_translations();
    default:  // what the kernel offers no call for
      return skip(out, SkipReason::kHostLacksFeature);
  }
}

// The runner's own pages must be reachable through the tables that the vCPU uses.
bool KvmSubject::root_ready(const Op& op) {
  return memory_.plant(registers(op).cr3 & pte::kAddressMask);
}

// Turns the end of a stub into an outcome; false if the step is over (fault, or the subject had to
// stop).
bool KvmSubject::settle(const StubExit& exit, Outcome& out) {
  if (!memory_.planted_intact()) {
    stop(out, Complaint::kNone, "a stale translation led a store to the runner's own root entry");
    return false;
  }
  switch (exit.kind) {
    case StubExit::Kind::kDone:
      return true;
    case StubExit::Kind::kHang:
      stop(out, Complaint::kLiveness, exit.why);
      return false;
    case StubExit::Kind::kSecondDimension:  // KVM keeps these to itself
    case StubExit::Kind::kBroken:
      stop(out, exit.shutdown ? Complaint::kTrap : Complaint::kNone, exit.why);
      return false;
    case StubExit::Kind::kException:
      break;
  }
  switch (exit.vector) {
    case kVectorPf:
      out.kind = OutcomeKind::kPageFault;
      out.error_code = exit.error_code;
      out.cr2 = exit.cr2;
      return false;
    case kVectorGp:
      out.kind = OutcomeKind::kGp;
      return false;
    case kVectorSs:
      out.kind = OutcomeKind::kSs;
      return false;
    default:
      stop(out, Complaint::kTrap, "exception vector " + std::to_string(exit.vector));
      return false;
  }
}

void KvmSubject::mov(const Op& op, Outcome& out) {
  if (op.reg() != Reg::kCpl && op.reg() != Reg::kAc) {
    if (!root_ready(op)) return skip(out, SkipReason::kHostLacksFeature);
    write_register(op, out);
    if (out.kind != OutcomeKind::kDone) return;
  }
  adopt_register(op, registers(op));
}

void KvmSubject::write_register(const Op& op, Outcome& out) {
  Stub stub = Stub::kWriteCr0;
  switch (op.reg()) {
    case Reg::kCr3: {
      // The next instruction is fetched through the new root. A value that must fault needs none.
      const bool pcide = (registers(op).cr4 & cr4::kPcide) != 0;
      const std::uint64_t value = pcide ? op.value & ~cr3::kNoFlush : op.value;
      const bool legal = value >> machine_.maxphyaddr == 0;
      if (legal && !memory_.plant(value & pte::kAddressMask))
        return skip(out, SkipReason::kHostLacksFeature);
      stub = Stub::kWriteCr3;
      break;
    }
    case Reg::kCr4:
      stub = Stub::kWriteCr4;
      break;
    case Reg::kEfer:
      stub = Stub::kWriteEfer;
      break;
    case Reg::kPkru:
      stub = Stub::kWritePkru;
      break;
    default:
      break;
  }
  settle(vm_->run(op.vcpu, {stub, op.value, 0, 0, registers(op).ac}), out);
}

void KvmSubject::invlpg(const Op& op, Outcome& out) {
  if (!root_ready(op)) return skip(out, SkipReason::kHostLacksFeature);
  settle(vm_->run(op.vcpu, {Stub::kInvlpg, op.gva, 0, 0, registers(op).ac}), out);
}

void KvmSubject::invpcid(const Op& op, Outcome& out) {
  if (!root_ready(op)) return skip(out, SkipReason::kHostLacksFeature);
  std::uint64_t* descriptor = vm_->invpcid_descriptor(op.vcpu);
  descriptor[0] = op.pcid;
  descriptor[1] = op.gva;
  settle(vm_->run(op.vcpu,
                  {Stub::kInvpcid, op.type, Vm::invpcid_linear(op.vcpu), 0, registers(op).ac}),
         out);
}

// A store to guest-physical memory through the runner's own window.
void KvmSubject::guest_store(const Op& op, Outcome& out) {
  const bool crosses = (op.gpa & (kPage - 1)) + op.size > kPage;
  const auto writable = [&](std::uint64_t gpa) {
    const Slot* slot = memory_.slots().find(gpa);
    return slot != nullptr && !slot->read_only;
  };
  const std::uint64_t last = op.gpa + op.size - 1;
  // KVM stores the half that is memory; the trace's rule is that neither is.
  const bool mixed = crosses && writable(op.gpa) != writable(last);
  const bool beyond = last < op.gpa || last >> machine_.maxphyaddr != 0;
  if (beyond || mixed || memory_.touches_runner(op.gpa, op.size) || !root_ready(op)) {
    return skip(out, SkipReason::kHostLacksFeature);
  }
  const std::uint64_t window = vm_->window(op.gpa >> 12, crosses);
  if (window == 0) return skip(out, SkipReason::kHostLacksFeature);
  const Stub stub = sized(Stub::kStore8, op.size);
  const StubExit exit =
      vm_->run(op.vcpu, {stub, window + (op.gpa & (kPage - 1)), op.value, 0, registers(op).ac});
  if (!settle(exit, out)) return;
  if (!exit.device.seen) return;
  out.kind = OutcomeKind::kMmio;
  out.write = exit.device.write;
  out.gpa[0] = exit.device.gpa;
}

}  // namespace twinwalk::kvm

namespace twinwalk {

std::unique_ptr<Subject> make_kvm_subject(std::string& why) {
  auto subject = std::make_unique<kvm::KvmSubject>();
  if (!subject->open(why)) return nullptr;
  return subject;
}

}  // namespace twinwalk
