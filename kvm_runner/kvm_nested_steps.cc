// Steps of subject `kvm` where the trace is a hypervisor (core=bare): the code in the VM runs its
// guest by VMRUN, on the nested tables that the trace writes.

#include <algorithm>

#include "kvm_runner/kvm_subject.h"
#include "kvm_runner/nested/nested_tables.h"
#include "kvm_runner/place.h"
#include "kvm_runner/step_limits.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kOpen = pte::kP | pte::kW | pte::kU;

// Whether no bit of it is reserved, as that of an entry that leads to a table or a small page.
bool is_plain(std::uint64_t entry, const Machine& machine) {
  const bool xd_reserved = (machine.tdp & tdp::kNxe) == 0;
  return (entry & pte::kP) != 0 && (entry & pte::kPs) == 0 &&
         (!xd_reserved || (entry & pte::kXd) == 0) &&
         (entry & pte::kAddressMask) >> machine.maxphyaddr == 0;
}

// AMD's processors reserve G in the uppermost ones.
bool is_plain_table(std::uint64_t entry, const Machine& machine) {
  return is_plain(entry, machine) && (entry & pte::kG) == 0;
}

// Whether everybody may read and write by that walk, so that the guest's root, which is read for
// each instruction, is there. Some that are not plain would do as well: those steps are skipped.
bool is_open_to_all(const NestedWalk& walk, const Machine& machine) {
  constexpr std::uint64_t kReservedIn2M = 0x1f'e000;
  if (!walk.complete || walk.meets_runner || (walk.common & kOpen) != kOpen) return false;
  const unsigned leaf = walk.path.count - 1;
  for (unsigned i = 0; i < leaf; ++i) {
    if (!is_plain_table(walk.path.entry[i], machine)) return false;
  }
  const bool is_2m = leaf + 2 == machine.host_levels;
  if (!is_2m && leaf + 1 != machine.host_levels) return false;
  const std::uint64_t entry = walk.path.entry[leaf];
  return is_plain(entry & ~pte::kPs, machine) && (!is_2m || (entry & kReservedIn2M) == 0);
}

// Whether a walk to that place finds all the A and D set that it would set.
bool is_marked(const NestedWalk& walk) {
  return (walk.common & pte::kA) != 0 && (walk.path.entry[walk.path.count - 1] & pte::kD) != 0;
}

}  // namespace

// What the VM is: the trace's machine, or, of a trace that is a hypervisor, that one's own: the
// second dimension is what its processor can do.
Machine KvmSubject::own_machine() const {
  Machine own = machine_;
  if (machine_.core != Dimension::kBare) return own;
  own.features |= feature::kSvm | feature::kPae;
  if (machine_.host_levels == 5) own.features |= feature::kLa57;
  own.features &= ~feature::k1G;
  if ((machine_.tdp & tdp::k1G) != 0) own.features |= feature::k1G;
  own.maxphyaddr =
      static_cast<std::uint8_t>(std::min<unsigned>(machine_.host_maxphyaddr, host_.maxphyaddr()));
  return own;
}

bool KvmSubject::start_nested(const Program& program, std::string& why) {
  const Layout layout = visits_legacy_mode(program) ? place_for(program) : Layout{kNestedBase};
  if (!memory_.reset(machine_, layout)) return why = "more guest memory than is kept seeded", false;
  const Registers own = SvmGuests::hypervisor_registers(layout, machine_.host_levels,
                                                        (machine_.tdp & tdp::kNxe) != 0);
  if (!make_vm(layout, own, why) || apply_slot(0, memory_.slots()[0]) != 0) return false;
  for (unsigned v = 0; v < machine_.vcpus; ++v) {
    if (vm_->allow_vmrun(v) != 0) return why = "KVM_SET_MSRS", false;
  }
  guests_ = std::make_unique<SvmGuests>(*vm_, layout, machine_.host_levels, machine_.vcpus,
                                        registers_[0]);
  return true;
}

// No word of a nested table can be lent: by whatever way the fetch may come to one.
bool KvmSubject::may_lend(const Half& half, unsigned vcpu) const {
  bool may = true;
  lender_.each_landing(half.gva, [&](std::uint64_t offset) {  // memslot 0 begins at gpa 0
    may = may && !may_be_nested_table(offset, guests_->root(vcpu));
  });
  return may;
}

StubExit KvmSubject::run_nested(unsigned vcpu, const StubCall& call) {
  const Registers& r = registers_[vcpu];
  const RunnerEntry own = memory_.layout().entry_of(mode_of(r.cr0, r.cr4, r.efer));
  return guests_->run(vcpu, call, own.bytes != 0 ? root_of(r) + own.offset : kUnknownGpa);
}

NestedRoot KvmSubject::nested_root(unsigned vcpu) const {
  return {guests_->root(vcpu), machine_.host_levels};
}

// Where the guest's root is.
NestedWalk KvmSubject::walk_to_root(const NestedRoot& root, const Registers& registers) const {
  return walk_nested(memory_, root, root_of(registers));
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
  const Registers& now = registers(op);
  if ((now.cr0 & cr0::kPg) != 0) {
    const bool walks = op.verb == Verb::kAccess && canonical(now, op.gva);
    const NestedWalk to_root = walk_to_root(nested_root(op.vcpu), now);
    // Its root may not be a nested table: KVM 6.1 protects those against the guest's walks, which
    // count as stores, and never gets past that.
    if (!is_open_to_all(to_root, machine_) || (!walks && !is_marked(to_root)) ||
        may_be_nested_table(to_root.gpa, guests_->root(op.vcpu)))
      return skip(out, SkipReason::kHostLacksFeature);
  }
  switch (op.verb) {
    case Verb::kMov:
      if (!leads_on(op)) return skip(out, SkipReason::kHostLacksFeature);
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

// Whether the next instruction, fetched through the root that is written or where paging goes on,
// sets nothing on its way.
bool KvmSubject::leads_on(const Op& op) const {
  Registers after = registers_[op.vcpu];
  adopt_register(op, after);
  const NestedWalk to_root = walk_to_root(nested_root(op.vcpu), after);
  return (after.cr0 & cr0::kPg) == 0 || (is_open_to_all(to_root, machine_) && is_marked(to_root));
}

// The runner's pages must be reachable for the guest in both dimensions.
bool KvmSubject::plant_nested(const NestedRoot& root, const Registers& registers) {
  if (!plant_nested_root(root)) return false;
  const Mode mode = mode_of(registers.cr0, registers.cr4, registers.efer);
  if (mode == Mode::kNone) return true;
  const NestedWalk to_root = walk_to_root(root, registers);
  return is_open_to_all(to_root, machine_) && memory_.plant(mode, to_root.gpa);
}

// As far up in the nested tables as the trace has nothing.
bool KvmSubject::plant_nested_root(const NestedRoot& root) {
  const std::uint64_t base = memory_.layout().base;
  std::uint64_t table = root.address & pte::kAddressMask;
  for (unsigned level = root.levels;; --level) {
    const std::uint64_t at = (base >> (12 + 9 * (level - 1)) & 511) * 8;
    std::uint64_t entry = 0;
    if (!memory_.read_word(table + at, entry)) return false;
    const bool own = !memory_.is_trace_word(table + at);
    if (own || level == 3 || (entry & pte::kP) == 0) {
      return memory_.plant_entry(table,
                                 {at, SvmGuests::entry_to_runner(memory_.layout(), level), 8});
    }
    const bool to_code = (entry & kOpen) == kOpen && (entry & pte::kXd) == 0;
    if (!to_code || !is_plain_table(entry, machine_)) return false;
    table = entry & pte::kAddressMask;
  }
}

void KvmSubject::vm_enter(const Op& op, Outcome& out) {
  constexpr std::uint64_t kOneAsid = 3, kOneAsidKeepsGlobals = 7;
  const bool one = op.type == kOneAsid || op.type == kOneAsidKeepsGlobals;
  if ((one && !host_.flushes_by_asid()) || !plant_nested_root({op.value, machine_.host_levels}))
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
  if (op.writer() == Writer::kHost || !can_store(op))
    return skip(out, SkipReason::kHostLacksFeature);
  const bool crosses = (op.gpa & (kPage - 1)) + op.size > kPage;
  const std::uint64_t window = vm_->window(Mode::k4Level, op.gpa >> 12, crosses);
  if (window == 0) return skip(out, SkipReason::kHostLacksFeature);
  StubCall call = store_call(op, window);
  call.ac = false;  // that is the guest's
  conclude_store(guests_->run_outside(op.vcpu, call), out);
}

GuestWalk KvmSubject::walk_both(unsigned vcpu, std::uint64_t gva) const {
  const NestedRoot root = nested_root(vcpu);
  const NestedMemory memory(memory_, root);
  GuestWalk out = walk(memory, registers_[vcpu], gva);
  std::uint64_t seen = memory.seen();
  bool large_1g = memory.large_1g();
  if (out.complete) {
    const NestedWalk last = walk_nested(memory_, root, out.gpa);
    out.complete = last.complete;
    out.gpa = last.gpa;
    out.meets_runner |= last.meets_runner;
    seen |= last.seen;
    large_1g |= last.large_1g;
  }
  // A hypervisor whose processor has narrower addresses than the trace says.
  const unsigned wanted = machine_.host_maxphyaddr, had = host_.maxphyaddr();
  // KVM lets hypervisors, too, have the pages that the processor has (guest_can_use_gbpages).
  const bool has_1g = (host_.features() & feature::k1G) != 0;
  if (large_1g && has_1g != ((machine_.tdp & tdp::k1G) != 0)) out.meets_runner = true;
  if (wanted > had && (seen & (bit(wanted) - bit(had))) != 0) out.meets_runner = true;
  return out;
}

}  // namespace twinwalk::kvm
