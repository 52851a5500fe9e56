#include "kvm_runner/kvm_subject.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "harness/trace/content.h"
#include "kvm_runner/place.h"
#include "kvm_runner/step_limits.h"
#include "kvm_runner/subjects.h"

namespace twinwalk::kvm {

bool KvmSubject::open(std::string& why, Driving driving) {
  if (!host_.open(why) || !memory_.open(why)) return false;
  info_ = {
      "kvm", host_.version(), host_.shadows() ? Profile::kKvmOnProcessor : Profile::kArchitecture,
      true,  host_.vendor(),  {}};
  driving_ = driving == Driving::kFaster ? measure_pace().faster() : driving;
  return true;
}

// A VM for the program. False if the host cannot be that machine.
bool KvmSubject::start(const Program& program, std::string& why) {
  const Machine& machine = program.machine;
  guests_.reset();
  vm_.reset();
  machine_ = machine;
  registers_.fill(initial_registers(machine));
  for (auto& bitmap : dirty_) bitmap.clear();
  lender_.reset();
  former_tables_.clear();
  if (machine.vendor != host_.vendor()) return why = "the host is of another vendor", false;
  if (machine.maxphyaddr > host_.maxphyaddr())
    return why = "the host has a smaller MAXPHYADDR", false;
  if (machine.has(feature::kNx) && (host_.features() & feature::kNx) == 0)
    return why = "no NX", false;
  if (machine.core == Dimension::kBare) return start_nested(program, why);
  const Layout layout = host_.only_4_level() ? Layout{} : place_for(program);
  if (!memory_.reset(machine, layout)) return why = "more guest memory than is kept seeded", false;
  if (!memory_.plant(machine.mode, kInitialCr3)) return why = "no initial root", false;
  if (!make_vm(layout, registers_[0], why) || apply_slot(0, memory_.slots()[0]) != 0) return false;
  // Once more, now that PDPTEs can be read.
  for (unsigned v = 0; v < machine.vcpus; ++v) {
    if (is_legacy(registers_[v]) && vm_->set_registers(v, registers_[v]) != 0)
      return why = "KVM_SET_SREGS", false;
  }
  return true;
}

bool KvmSubject::make_vm(const Layout& layout, const Registers& registers, std::string& why) {
  const Machine machine = own_machine();
  if (keeps_vms_) vm_ = pool_.take(machine);
  if (vm_ != nullptr && vm_->begin_again(layout, registers, why)) return true;
  vm_ = Vm::create(host_, machine, layout, registers, why);
  return vm_ != nullptr;
}

// A batch that does not go as foretold tells nothing: then the program is run again without.
void KvmSubject::run(const Program& program, OutcomeStream& out) {
  if (run_all(program, out)) return;
  ++driven_.again;
  const Driving chosen = std::exchange(driving_, Driving::kAlone);
  run_all(program, out);
  driving_ = chosen;
}

bool KvmSubject::run_all(const Program& program, OutcomeStream& out) {
  out.clear();
  stream_ = &out;
  std::string why;
  const SkipReason reason = why_not_machine(program.machine, host_);
  const bool started = reason == SkipReason::kNone && start(program, why);
  stopped_ = batch_failed_ = false;
  image_valid_ = started;
  if (started && watcher_ != nullptr) {
    std::vector<int> vcpus;
    for (unsigned v = 0; v < vm_->vcpus(); ++v) vcpus.push_back(vm_->vcpu_descriptor(v));
    watcher_->program_begins(vm_->descriptor(), vcpus);
  }
  const auto begin = std::chrono::steady_clock::now();
  while (out.steps.size() < program.steps.size()) {
    const std::size_t step_index = out.steps.size();
    Outcome outcome;
    if (!started) {
      skip(outcome, reason != SkipReason::kNone ? reason : SkipReason::kHostLacksFeature);
    } else if (stopped_) {
      skip(outcome, SkipReason::kSubjectStopped);
    } else {
      if (driving_ == Driving::kBatched && !nested() && run_batch(program, step_index, out) != 0)
        continue;
      if (batch_failed_) break;
      ++driven_.alone;
      step(program.steps[step_index].what, outcome);
    }
    out.steps.push_back(outcome);
  }
  steps_took_ = std::chrono::steady_clock::now() - begin;
  if (started && watcher_ != nullptr) watcher_->program_ended();
  // One that had to be stopped is in no state that is known.
  const bool known = started && !stopped_ && !batch_failed_ && vm_->is_whole();
  if (keeps_vms_ && known && (!nested() || guests_->call_back())) {
    pool_.give(own_machine(), std::move(vm_));
  } else {
    vm_.reset();
  }
  guests_.reset();
  return !batch_failed_;
}

// By whoever runs the trace's accesses.
StubExit KvmSubject::run_stub(unsigned vcpu, const StubCall& call) {
  return nested() ? run_nested(vcpu, call) : vm_->run(vcpu, call);
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

// A shadow MMU does not see what it does to tables, or what stores by a second memslot will do.
bool KvmSubject::hides_edits(const Op& op) {
  return (op.verb == Verb::kWrite && op.writer() == Writer::kHost) ||
         op.verb == Verb::kInvalidate || op.verb == Verb::kSlotAdd;
}

void KvmSubject::step(const Op& op, Outcome& out) {
  const unsigned known_vcpu = op.vcpu < machine_.vcpus ? op.vcpu : 0;
  const SkipReason reason = why_not(op, machine_, registers_[known_vcpu], host_);
  if (reason != SkipReason::kNone) return skip(out, reason);
  if (nested()) return nested_step(op, out);
  if (host_.shadows() && hides_edits(op)) lender_.share_landings();
  switch (op.verb) {
    case Verb::kMov:
      return mov(op, out);
    case Verb::kGet:
      return get(op, out);
    case Verb::kSregs:
      return sregs(op, out);
    case Verb::kInit:
      return init(op, out);
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
    case Verb::kHugeSplit:
    case Verb::kHugeCollapse:
      return change_host_page(op, out);
    case Verb::kDirtyGet:
      return dirty_get(op, out);
    case Verb::kDirtyClear:
      return dirty_clear(op, out);
    case Verb::kNewVcpu:
      return new_vcpu(op, out);
    case Verb::kZapAll:
      return vm_->zap_translations();
    default:  // what the kernel offers no call for
      return skip(out, SkipReason::kHostLacksFeature);
  }
}

// The runner's own pages must be reachable through the tables that the vCPU uses, or would use
// with these registers.
bool KvmSubject::plant_for(unsigned vcpu, const Registers& r) {
  if (nested()) return plant_nested(nested_root(vcpu), r);
  const Mode mode = mode_of(r.cr0, r.cr4, r.efer);
  const std::uint64_t root = root_of(r);
  if (mode == Mode::kPae) {
    if (host_.shadows() && !(directories_are_memory(root) && loaded_are_memory(vcpu))) return false;
  }
  if (never_walks(mode, root)) return false;
  return memory_.plant(mode, root);
}

// The same of those that the vCPU has loaded, which memory may not hold any more. The runner's has
// its own memslot.
bool KvmSubject::loaded_are_memory(unsigned vcpu) const {
  const Registers& r = registers_[vcpu];
  std::array<std::uint64_t, 4> pdptes;
  if (vm_ == nullptr || mode_of(r.cr0, r.cr4, r.efer) != Mode::kPae ||
      !vm_->get_pdptes(vcpu, pdptes))
    return true;
  const std::uint64_t own = memory_.layout().entry_of(Mode::kPae).value & pte::kAddressMask;
  return std::all_of(pdptes.begin(), pdptes.end(), [&](std::uint64_t pdpte) {
    const std::uint64_t table = pdpte & pte::kAddressMask;
    return (pdpte & pte::kP) == 0 || table == own || memory_.slots().find(table) != nullptr;
  });
}

// The walk to the runner's own pages is one of stores there, whether A is set or not, and in a
// read-only memslot it never ends.
bool KvmSubject::never_walks(Mode mode, std::uint64_t root) const {
  const Slot* slot = mode != Mode::kNone ? memory_.slots().find(root) : nullptr;
  return host_.sets_a_in_pdptes() && slot != nullptr && slot->read_only;
}

// To KVM's shadow MMU each PDPTE is a root, and a root without memory shuts the guest down.
bool KvmSubject::directories_are_memory(std::uint64_t root) const {
  for (unsigned i = 0; i < 4; ++i) {
    std::uint64_t pdpte = 0;
    if (!memory_.read_word(root + 8 * i, pdpte)) return false;
    const bool reserved = pdpte >> machine_.maxphyaddr != 0;  // refused by then
    if ((pdpte & pte::kP) != 0 && !reserved &&
        memory_.slots().find(pdpte & pte::kAddressMask) == nullptr) {
      return false;
    }
  }
  return true;
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
    case StubExit::Kind::kSecondDimension:  // of a nested guest: others KVM keeps to itself
      out.kind = OutcomeKind::kNestedFault;
      out.qualification = exit.nested.qualification;
      out.gpa[0] = exit.nested.gpa;
      return false;
    case StubExit::Kind::kLeftGuest:
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
    if (!plant_for(op.vcpu, registers(op))) return skip(out, SkipReason::kHostLacksFeature);
    write_register(op, out);
    if (out.kind != OutcomeKind::kDone) return;
  }
  adopt_register(op, registers(op));
}

// Whether that write of CR0 goes in or out of IA-32e mode. What no processor would accept does
// not: the guest is to try it. SDM 3A §"Control Registers", §"Initializing IA-32e Mode".
bool KvmSubject::switches_long_mode(const Op& op) const {
  const Registers& now = registers_[op.vcpu];
  if (op.reg() != Reg::kCr0 || (now.efer & efer::kLme) == 0) return false;
  const std::uint64_t value = operand_of(op, now);
  if (((value ^ now.cr0) & cr0::kPg) == 0) return false;
  if ((value & cr0::kNw) != 0 && (value & cr0::kCd) == 0) return false;
  if ((value & cr0::kPg) != 0) return (value & cr0::kPe) != 0 && (now.cr4 & cr4::kPae) != 0;
  return value >> 32 == 0 && (now.cr4 & cr4::kPcide) == 0;
}

// Whether a write that loads PDPTEs would find A in that of the runner, where the walk to the
// writing instruction has set it, and be refused for that. SDM 3A §"PDPTE Registers".
bool KvmSubject::finds_own_a(const Op& op, const Registers& after) const {
  constexpr std::uint64_t kCr0Bits = cr0::kPg | cr0::kCd | cr0::kNw,
                          kCr4Bits = cr4::kPae | cr4::kPge | cr4::kPse | cr4::kSmep;
  const Registers& now = registers_[op.vcpu];
  const auto pae = [](const Registers& r) { return mode_of(r.cr0, r.cr4, r.efer) == Mode::kPae; };
  if (!host_.sets_a_in_pdptes() || !pae(now) || !pae(after)) return false;
  // What no processor would accept the guest is to try.
  const bool possible =
      (after.cr0 & (cr0::kNw | cr0::kCd)) != cr0::kNw && (after.cr4 & cr4::kPcide) == 0;
  const std::uint64_t changed =
      ((now.cr0 ^ after.cr0) & kCr0Bits) | ((now.cr4 ^ after.cr4) & kCr4Bits);
  return possible && changed != 0;
}

void KvmSubject::write_register(const Op& op, Outcome& out) {
  const Registers now = registers(op);
  Registers after = now;
  adopt_register(op, after);
  if (host_.hangs_with(after)) return skip(out, SkipReason::kHostLacksFeature);
  const bool reserved = !is_legacy(now) && after.cr3 >> machine_.maxphyaddr != 0;
  if (op.reg() == Reg::kCr3 && reserved && host_.takes_reserved_cr3())
    return skip(out, SkipReason::kHostLacksFeature);
  if (switches_long_mode(op) || finds_own_a(op, after)) {
    if (nested()) return skip(out, SkipReason::kHostLacksFeature);
    if (!plant_for(op.vcpu, after)) return skip(out, SkipReason::kHostLacksFeature);
    return set_registers(op.vcpu, after, OutcomeKind::kGp, out);
  }
  Stub stub = Stub::kWriteCr0;
  std::uint64_t value = operand_of(op, now);
  switch (op.reg()) {
    case Reg::kCr0:
      // PE stays on (Vm::set_registers), but where taking it away is an error.
      if ((value & cr0::kPg) == 0) value |= cr0::kPe;
      break;
    case Reg::kCr3:
      stub = Stub::kWriteCr3;
      break;
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
  // The next instruction is fetched by the new registers. A value that must fault needs no root.
  const bool fits = after.cr3 >> machine_.maxphyaddr == 0;
  const bool stays = is_legacy(after) == is_legacy(now) &&
                     (is_legacy(now) || ((after.cr4 ^ now.cr4) & cr4::kLa57) == 0);
  if (fits && stays && !plant_for(op.vcpu, after)) return skip(out, SkipReason::kHostLacksFeature);
  // The EFER of a nested guest has SVME, whatever the trace's has: VMRUN demands it.
  if (nested() && op.reg() == Reg::kEfer) value |= efer::kSvme;
  settle(run_stub(op.vcpu, {stub, value, 0, 0, now.ac}), out);
}

// KVM_SET_SREGS; what it does not take is `refused`.
void KvmSubject::set_registers(unsigned vcpu, const Registers& wanted, OutcomeKind refused,
                               Outcome& out) {
  const int error = vm_->set_registers(vcpu, wanted);
  if (error == 0) return;
  if (error != EINVAL) return stop(out, Complaint::kNone, "KVM_SET_SREGS failed");
  out.kind = refused;
}

void KvmSubject::sregs(const Op& op, Outcome& out) {
  const Registers wanted = with_sregs(op, registers(op));
  if (host_.hangs_with(wanted)) return skip(out, SkipReason::kHostLacksFeature);
  const std::uint64_t cr3 = is_legacy(wanted) ? wanted.cr3 & 0xffff'ffff : wanted.cr3;
  if (cr3 >> machine_.maxphyaddr == 0 && !plant_for(op.vcpu, wanted))
    return skip(out, SkipReason::kHostLacksFeature);
  // KVM takes the registers and loads none: nor the runner's.
  const bool pae = mode_of(wanted.cr0, wanted.cr4, wanted.efer) == Mode::kPae;
  if (pae && !directories_can_be_loaded(root_of(wanted)))
    return skip(out, SkipReason::kHostLacksFeature);
  set_registers(op.vcpu, wanted, OutcomeKind::kRefused, out);
  if (out.kind == OutcomeKind::kDone) registers(op) = wanted;
}

// Without an interrupt controller in the kernel INIT is the host's to do. SDM 3A §"Processor State
// After Reset": INIT keeps CD and NW, RESET sets them.
void KvmSubject::init(const Op& op, Outcome& out) {
  constexpr std::uint64_t kCaching = cr0::kCd | cr0::kNw;
  const bool resets = op.type != 0;
  Registers after;
  after.cr0 = cr0::kEt | (resets ? kCaching : registers(op).cr0 & kCaching);
  after.cr3 = after.cr4 = after.efer = 0;
  after.pkru = registers(op).pkru;
  if (resets && after.pkru != 0) return skip(out, SkipReason::kHostLacksFeature);
  set_registers(op.vcpu, after, OutcomeKind::kRefused, out);
  if (out.kind == OutcomeKind::kDone) registers(op) = after;
}

// The runner's own pages have to be reachable at once where PDPTEs are registers.
void KvmSubject::new_vcpu(const Op& op, Outcome& out) {
  const Registers start = initial_registers(machine_);
  const bool pae = mode_of(start.cr0, start.cr4, start.efer) == Mode::kPae;
  if (!plant_for(op.vcpu, start) || (pae && !directories_can_be_loaded(start.cr3)))
    return skip(out, SkipReason::kHostLacksFeature);
  std::string why;
  if (!vm_->renew_vcpu(host_, machine_, start, op.vcpu, why))
    return skip(out, SkipReason::kHostLacksFeature);
  registers(op) = start;
}

// A reserved bit in one of them, and KVM loads none. SDM 3A §"PDPTE Registers".
bool KvmSubject::directories_can_be_loaded(std::uint64_t root) const {
  constexpr std::uint64_t kReserved = 0x1e6;
  for (unsigned i = 0; i < 4; ++i) {
    std::uint64_t pdpte = 0;
    if (!memory_.read_word(root + 8 * i, pdpte)) return false;
    if ((pdpte & pte::kP) != 0 && ((pdpte & kReserved) != 0 || pdpte >> machine_.maxphyaddr != 0))
      return false;
  }
  return true;
}

Stub KvmSubject::read_stub(Reg reg) {
  switch (reg) {
    case Reg::kCr3:
      return Stub::kReadCr3;
    case Reg::kCr4:
      return Stub::kReadCr4;
    case Reg::kEfer:
      return Stub::kReadEfer;
    case Reg::kPkru:
      return Stub::kReadPkru;
    default:
      return Stub::kReadCr0;
  }
}

// By the guest itself.
void KvmSubject::get(const Op& op, Outcome& out) {
  const Registers& now = registers(op);
  if (op.reg() == Reg::kCpl || op.reg() == Reg::kAc) {
    out.kind = OutcomeKind::kOk;
    out.value = value_of(now, op.reg());
    return;
  }
  if (!plant_for(op.vcpu, now)) return skip(out, SkipReason::kHostLacksFeature);
  conclude_get(op, run_stub(op.vcpu, {read_stub(op.reg()), 0, 0, 0, now.ac}), out);
}

void KvmSubject::conclude_get(const Op& op, const StubExit& exit, Outcome& out) {
  if (!settle(exit, out)) return;
  out.kind = OutcomeKind::kOk;
  out.value = exit.rax;
  // PE is the runner's where the trace has not got it.
  if (op.reg() == Reg::kCr0 && (registers(op).cr0 & cr0::kPe) == 0) out.value &= ~cr0::kPe;
  if (nested() && op.reg() == Reg::kEfer) out.value &= registers(op).efer | ~efer::kSvme;
}

void KvmSubject::invlpg(const Op& op, Outcome& out) {
  if (!plant_for(op.vcpu, registers(op))) return skip(out, SkipReason::kHostLacksFeature);
  settle(run_stub(op.vcpu, {Stub::kInvlpg, op.gva, 0, 0, registers(op).ac}), out);
}

void KvmSubject::invpcid(const Op& op, Outcome& out) {
  if (!plant_for(op.vcpu, registers(op))) return skip(out, SkipReason::kHostLacksFeature);
  std::uint64_t* descriptor = vm_->invpcid_descriptor(op.vcpu);
  descriptor[0] = op.pcid;
  descriptor[1] = op.gva;
  settle(run_stub(op.vcpu,
                  {Stub::kInvpcid, op.type, vm_->invpcid_linear(op.vcpu), 0, registers(op).ac}),
         out);
}

// Linear address of the frame's first byte; without paging it is there anyway.
std::uint64_t KvmSubject::window_of(std::uint64_t gpa, bool crosses, const Registers& now,
                                    bool reads) {
  const Mode mode = mode_of(now.cr0, now.cr4, now.efer);
  const std::uint64_t page = gpa & ~(kPage - 1);
  if (mode == Mode::kNone) return page + 2 * kPage <= std::uint64_t{1} << 32 ? page : kNoWindow;
  const std::uint64_t window = vm_->window(mode, gpa >> 12, crosses, reads);
  return window != 0 ? window : kNoWindow;
}

bool KvmSubject::can_store(const Op& op) {
  const bool crosses = (op.gpa & (kPage - 1)) + op.size > kPage;
  const auto writable = [&](std::uint64_t gpa) {
    const Slot* slot = memory_.slots().find(gpa);
    return slot != nullptr && !slot->read_only;
  };
  const std::uint64_t last = op.gpa + op.size - 1;
  // KVM stores the half that is memory; the trace's rule is that neither is.
  const bool mixed = crosses && writable(op.gpa) != writable(last);
  const bool beyond = last < op.gpa || last >> machine_.maxphyaddr != 0;
  return !beyond && !mixed && !memory_.touches_runner(op.gpa, op.size);
}

StubCall KvmSubject::store_call(const Op& op, std::uint64_t window) const {
  return {sized(Stub::kStore8, op.size), window + (op.gpa & (kPage - 1)), op.value, 0,
          registers_[op.vcpu].ac};
}

// A store to guest-physical memory through the runner's own window.
void KvmSubject::guest_store(const Op& op, Outcome& out) {
  const Registers& now = registers(op);
  if (!can_store(op) || lacks_eight_bytes(op, now) || !plant_for(op.vcpu, now))
    return skip(out, SkipReason::kHostLacksFeature);
  const bool crosses = (op.gpa & (kPage - 1)) + op.size > kPage;
  const std::uint64_t window = window_of(op.gpa, crosses, now);
  if (window == kNoWindow) return skip(out, SkipReason::kHostLacksFeature);
  conclude_store(run_stub(op.vcpu, store_call(op, window)), out);
}

void KvmSubject::conclude_store(const StubExit& exit, Outcome& out) {
  if (!settle(exit, out) || !exit.device.seen) return;
  out.kind = OutcomeKind::kMmio;
  out.write = exit.device.write;
  out.gpa[0] = exit.device.gpa;
}

}  // namespace twinwalk::kvm

namespace twinwalk {

std::unique_ptr<VmSubject> make_kvm_subject(std::string& why, Driving driving) {
  auto subject = std::make_unique<kvm::KvmSubject>();
  if (!subject->open(why, driving)) return nullptr;
  return subject;
}

std::optional<KvmPace> measure_kvm_pace() {
  std::string why;
  kvm::KvmSubject subject;
  if (!subject.open(why, Driving::kAlone)) return std::nullopt;
  return subject.measure_pace();
}

}  // namespace twinwalk
