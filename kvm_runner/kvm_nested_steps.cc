// Steps of subject `kvm` where the trace is a hypervisor (core=bare): the code in the VM runs its
// guest by VMRUN, on the nested tables that the trace writes.

#include <algorithm>

#include "kvm_runner/kvm_subject.h"
#include "kvm_runner/nested/nested_tables.h"
#include "kvm_runner/step_limits.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kLayoutOffset = 0x5400'0000;  // as in other places: away from the ends

// The hypervisor's own processor: the second dimension is what it can do.
Machine hypervisor_machine(const Machine& machine, const Host& host) {
  Machine own = machine;
  own.features |= feature::kSvm;
  own.features &= ~feature::k1G;
  if ((machine.tdp & tdp::k1G) != 0) own.features |= feature::k1G;
  own.maxphyaddr =
      static_cast<std::uint8_t>(std::min<unsigned>(machine.host_maxphyaddr, host.maxphyaddr()));
  return own;
}

// Whether everybody may read and write by that walk, so that the guest's root, which is read for
// each instruction, is there. Without large pages beyond 2M and reserved bits, though some might
// do.
bool is_open_to_all(const NestedWalk& walk, const Machine& machine) {
  constexpr std::uint64_t kOpen = pte::kP | pte::kW | pte::kU, kReservedIn2M = 0x1f'e000;
  if (!walk.complete || walk.meets_runner || (walk.entries_common & kOpen) != kOpen) return false;
  const bool xd_reserved = (machine.tdp & tdp::kNxe) == 0;
  if (xd_reserved && (walk.entries_seen & pte::kXd) != 0) return false;
  if ((walk.entries_seen & pte::kAddressMask) >> machine.maxphyaddr != 0) return false;
  if ((walk.entries_seen & pte::kPs) == 0) return true;
  const auto& path = walk.path;
  return path.count == 3 && ((path.entry[0] | path.entry[1]) & pte::kPs) == 0 &&
         (path.entry[2] & kReservedIn2M) == 0;
}

// Whether a walk to that place finds all the A and D set that it would set.
bool is_marked(const NestedWalk& walk) {
  return (walk.entries_common & pte::kA) != 0 &&
         (walk.path.entry[walk.path.count - 1] & pte::kD) != 0;
}

}  // namespace

bool KvmSubject::start_nested(std::string& why) {
  const Layout layout{SvmGuests::kBase + kLayoutOffset};
  if (!memory_.reset(machine_, layout)) return why = "more guest memory than is kept seeded", false;
  const Registers own = SvmGuests::hypervisor_registers(layout, (machine_.tdp & tdp::kNxe) != 0);
  vm_ = Vm::create(host_, hypervisor_machine(machine_, host_), layout, own, why);
  if (vm_ == nullptr || apply_slot(0, memory_.slots()[0]) != 0) return false;
  for (unsigned v = 0; v < machine_.vcpus; ++v) {
    if (vm_->allow_vmrun(v) != 0) return why = "KVM_SET_MSRS", false;
  }
  guests_ = std::make_unique<SvmGuests>(*vm_, layout, machine_.vcpus, registers_[0]);
  return true;
}

void KvmSubject::nested_step(const Op& op, Outcome& out) {
  switch (op.verb) {
    case Verb::kWrite:
      return hypervisor_store(op, out);
    case Verb::kVmEnter:
      return vm_enter(op, out);
    case Verb::kVmExit:
      return guests_->leave(op.vcpu);
    case Verb::kInvlpga:
      return invlpga(op, out);
    default:
      break;
  }
  const bool is_register = op.verb == Verb::kMov || op.verb == Verb::kGet;
  if (is_register && (op.reg() == Reg::kCpl || op.reg() == Reg::kAc))
    return op.verb == Verb::kMov ? mov(op, out) : get(op, out);
  // The linear space is the runner's outside guest mode.
  if (!guests_->has_guest(op.vcpu)) return skip(out, SkipReason::kHostLacksFeature);
  // The guest's instruction itself is fetched through its root.
  const bool walks = op.verb == Verb::kAccess && canonical(registers(op), op.gva);
  const NestedWalk to_root =
      walk_nested(memory_, guests_->root(op.vcpu), registers(op).cr3 & pte::kAddressMask);
  if (!is_open_to_all(to_root, machine_) || (!walks && !is_marked(to_root)))
    return skip(out, SkipReason::kHostLacksFeature);
  switch (op.verb) {
    case Verb::kMov:
      return mov(op, out);
    case Verb::kGet:
      return get(op, out);
    case Verb::kAccess:
      return access(op, out);
    case Verb::kInvlpg:
      return invlpg(op, out);
    case Verb::kInvpcid:
      return invpcid(op, out);
    default:
      return skip(out, SkipReason::kVerbNotSupported);
  }
}

// The runner's pages must be reachable for the guest in both dimensions.
bool KvmSubject::plant_nested(std::uint64_t root, const Registers& registers) {
  const NestedWalk to_root = walk_nested(memory_, root, registers.cr3 & pte::kAddressMask);
  return plant_nested_root(root) && is_open_to_all(to_root, machine_) &&
         memory_.plant(Mode::k4Level, to_root.gpa);
}

bool KvmSubject::plant_nested_root(std::uint64_t root) {
  const RunnerEntry entry{SvmGuests::kNestedRootIndex * 8,
                          SvmGuests::nested_root_entry(memory_.layout()), 8};
  return memory_.plant_entry(root & pte::kAddressMask, entry);
}

void KvmSubject::vm_enter(const Op& op, Outcome& out) {
  constexpr std::uint64_t kOneAsid = 3, kOneAsidKeepsGlobals = 7;
  const bool one = op.type == kOneAsid || op.type == kOneAsidKeepsGlobals;
  if ((one && !host_.flushes_by_asid()) || !plant_nested_root(op.value))
    return skip(out, SkipReason::kHostLacksFeature);
  const StubExit exit = guests_->enter(op.vcpu, op.value, static_cast<std::uint32_t>(op.pcid),
                                       static_cast<std::uint8_t>(op.type));
  if (exit.kind == StubExit::Kind::kLeftGuest) {
    out.kind = OutcomeKind::kVmFail;
    return;
  }
  settle(exit, out);
}

void KvmSubject::invlpga(const Op& op, Outcome& out) {
  settle(guests_->run_outside(op.vcpu, {Stub::kInvlpga, op.gva, op.value, 0, false}), out);
}

// Through the hypervisor's own window.
void KvmSubject::hypervisor_store(const Op& op, Outcome& out) {
  const std::uint64_t last = op.gpa + op.size - 1;
  const bool crosses = (op.gpa & (kPage - 1)) + op.size > kPage;
  const bool beyond = last < op.gpa || last >> machine_.maxphyaddr != 0;
  const bool mixed =
      (memory_.slots().find(op.gpa) == nullptr) != (memory_.slots().find(last) == nullptr);
  if (op.writer() == Writer::kHost || beyond || mixed || memory_.touches_runner(op.gpa, op.size))
    return skip(out, SkipReason::kHostLacksFeature);
  const std::uint64_t window = vm_->window(Mode::k4Level, op.gpa >> 12, crosses);
  if (window == 0) return skip(out, SkipReason::kHostLacksFeature);
  const StubExit exit = guests_->run_outside(
      op.vcpu,
      {sized(Stub::kStore8, op.size), window + (op.gpa & (kPage - 1)), op.value, 0, false});
  if (!settle(exit, out) || !exit.device.seen) return;
  out.kind = OutcomeKind::kMmio;
  out.write = exit.device.write;
  out.gpa[0] = exit.device.gpa;
}

GuestWalk KvmSubject::walk_both(unsigned vcpu, std::uint64_t gva) const {
  const std::uint64_t root = guests_->root(vcpu);
  const NestedMemory memory(memory_, root);
  GuestWalk out = walk(memory, registers_[vcpu], gva);
  std::uint64_t nested_seen = memory.entries_seen();
  if (out.complete) {
    const NestedWalk last = walk_nested(memory_, root, out.gpa);
    out.complete = last.complete;
    out.gpa = last.gpa;
    out.meets_runner |= last.meets_runner;
    nested_seen |= last.entries_seen;
  }
  // A hypervisor whose processor has narrower addresses than the trace says.
  const std::uint64_t between = bit(machine_.host_maxphyaddr) - bit(host_.maxphyaddr());
  if (machine_.host_maxphyaddr > host_.maxphyaddr() && (nested_seen & between) != 0)
    out.meets_runner = true;
  return out;
}

}  // namespace twinwalk::kvm
