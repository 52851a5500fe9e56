#include "harness/core/steps.h"

#include "harness/core/fault_answer.h"

namespace twinwalk {
namespace {

void skip(SkipReason reason, Outcome& out) {
  out = {};
  out.kind = OutcomeKind::kSkip;
  out.reason = reason;
}

// Never 0: that is a turn without a fault.
std::uint32_t kind_of(const mmu::TdpFault& fault) {
  std::uint32_t bits = 1;
  for (const bool b : {fault.read, fault.write, fault.fetch, fault.present, fault.reserved,
                       fault.table, fault.user_fetch})
    bits = bits << 1 | (b ? 1 : 0);
  return bits;
}

}  // namespace

void CoreSteps::execute(const Op& op, Outcome& out, OutcomeStream& stream) {
  const SkipReason reason = host_.why_not(op);
  if (reason != SkipReason::kNone) return skip(reason, out);
  if (op.verb == Verb::kAccess) return access(op, out);
  core_ran_ = true;
  switch (op.verb) {
    case Verb::kMov: {
      host_.execute_and_exit(op);
      const Registers before = core_.registers(op.vcpu);
      if (!core_.write_register(op.vcpu, op.reg(), op.value)) {
        out.kind = OutcomeKind::kGp;
        return;
      }
      return host_.executed(op, before);
    }
    case Verb::kSregs:
      if (!core_.set_sregs(op)) out.kind = OutcomeKind::kRefused;
      return;
    case Verb::kWrite:
      return op.writer() == Writer::kHost ? host_steps_.store(op, out) : guest_store(op, out);
    case Verb::kInvlpg:
      host_.execute_and_exit(op);
      vcpu(op).invlpg(mmu::Gva{op.gva});
      return host_.executed(op, core_.registers(op.vcpu));
    case Verb::kInvpcid:
      host_.execute_and_exit(op);
      if (!vcpu(op).invpcid(op.type, op.pcid, mmu::Gva{op.gva})) {
        out.kind = OutcomeKind::kGp;
        return;
      }
      return host_.executed(op, core_.registers(op.vcpu));
    case Verb::kInvlpga:
      if (!vcpu(op).invlpga(mmu::Gva{op.gva}, static_cast<mmu::u32>(op.value))) {
        out.kind = OutcomeKind::kUd;
        return;
      }
      return host_.executed(op, core_.registers(op.vcpu));
    case Verb::kGet:
      host_.execute_and_exit(op);
      return get(op, out);
    case Verb::kSmm:
      return core_.set_smm(op.vcpu, op.value != 0);
    case Verb::kInit:
      return core_.init(op.vcpu, op.type != 0);
    case Verb::kNewVcpu:
      if (rings_.on()) empty_dirty_ring(op.vcpu);
      return core_.recreate(host_, op.vcpu);
    case Verb::kCpuid:
      if (!core_.set_cpuid(op)) {
        out.kind = OutcomeKind::kRefused;
        return;
      }
      return host_.executed(op, core_.registers(op.vcpu));
    case Verb::kSlotAdd:
    case Verb::kSlotDelete:
    case Verb::kSlotMove:
    case Verb::kSlotFlags:
      host_steps_.change_slot(op, out);
      if (op.verb == Verb::kSlotMove && op.slot < kMaxSlots) rings_.moved(op.slot, op.space);
      return;
    case Verb::kInvalidate:
    case Verb::kRemap:
    case Verb::kProtect:
    case Verb::kAge:
      return host_steps_.change_backing(op, out);
    case Verb::kHugeSplit:
    case Verb::kHugeCollapse:
      return host_steps_.change_host_page(op, out);
    case Verb::kDirtyGet:
      host_steps_.dirty_get(op, out, stream);
      return check_dirty_rings(op, out, stream);
    case Verb::kDirtyClear:
      return host_steps_.dirty_clear(op, out);
    case Verb::kPrefault:
      vcpu(op).prefault(mmu::Gpa{op.gpa & ~(mmu::kPageSize - 1)}, op.pages);
      return;
    case Verb::kNxRecover:
      core_.vm().recover_nx_huge_pages(op.pages);
      return;
    case Verb::kTrack:
      return host_steps_.track(op, out);
    case Verb::kAttributes:
      return host_steps_.set_attributes(op, out);
    case Verb::kReclaim:
      core_.vm().reclaim(op.pages);
      return;
    case Verb::kZapAll:
      return core_.vm().zap_all();
    case Verb::kQuota:
      return host_steps_.set_quota(op);
    case Verb::kFailAlloc:
      return host_.fail_allocations(op.after, op.count);
    default:
      return skip(SkipReason::kVerbNotSupported, out);
  }
}

void CoreSteps::access(const Op& op, Outcome& out) {
  const std::uint8_t cpl = core_.registers(op.vcpu).cpl;
  if (op.gives(Field::kCpl)) core_.set_cpl(op.vcpu, op.cpl == 3 ? 3 : 0);
  const bool over = try_access(op, out);
  core_.set_cpl(op.vcpu, cpl);
  if (!over) {
    complaints_.add(Complaint::kLiveness,
                    "the access faults again and again though nothing changes");
    return skip(SkipReason::kSubjectStopped, out);
  }
  if (out.kind == OutcomeKind::kGp || out.kind == OutcomeKind::kSkip) return;
  host_.finish_access(op, out);
}

// False: nothing was in it.
bool CoreSteps::empty_dirty_ring(unsigned vcpu) {
  mmu::Gfn gfns[64];
  bool any = false;
  while (const mmu::u32 n = core_.vcpu(vcpu).take_dirty_ring(gfns, 64)) {
    any = true;
    for (mmu::u32 i = 0; rings_.on() && i < n; ++i) rings_.take(gfns[i].raw);
  }
  return any;
}

// The trace has collected the log by `dirty-get`: nothing may be there that no ring had.
void CoreSteps::check_dirty_rings(const Op& op, const Outcome& out, const OutcomeStream& stream) {
  if (!rings_.on() || overlapping_ || out.kind == OutcomeKind::kRefused) return;
  for (unsigned v = 0; v < core_.machine().vcpus; ++v) empty_dirty_ring(v);
  bool all = true;
  const bool moved = rings_.was_moved(op.slot, op.space);
  for (std::uint32_t i = 0; i < out.extra_count; ++i)
    all &= rings_.had(stream.extra[out.extra_begin + i], op.space);
  if (!all && !moved)
    complaints_.add(Complaint::kAuditDirty, "a page of the log was in no vCPU's ring");
}

bool CoreSteps::try_access(const Op& op, Outcome& out) {
  FaultTally tally;
  for (unsigned met = 0; met <= refault_bound_;) {
    fault_[op.vcpu] = {};
    const mmu::EntryState entry = vcpu(op).enter();
    if (entry.ring_full) {
      if (!empty_dirty_ring(op.vcpu)) met = tally.count({});
      continue;
    }
    if (!entry.ok) {
      if (!host_.memory_comes_back()) return false;
      continue;
    }
    const Attempt attempt = host_.attempt(op, entry, out);
    if (attempt == Attempt::kOver) return true;
    if (attempt == Attempt::kHopeless) return false;
    if (!host_.memory_comes_back() && !host_.let_others_go_on()) met = tally.count(fault_[op.vcpu]);
  }
  return false;
}

bool CoreSteps::answer_fault(const Op& op, std::uint64_t fault_gva, std::uint32_t error_code,
                             Outcome& out) {
  core_ran_ = true;
  fault_[op.vcpu] = {fault_gva & ~(mmu::kPageSize - 1), error_code};
  return twinwalk::answer_fault(vcpu(op), op, fault_gva, error_code, out);
}

void CoreSteps::note_tdp_fault(const Op& op, const mmu::TdpFault& fault) {
  core_ran_ = true;
  fault_[op.vcpu] = {fault.gpa.raw & ~(mmu::kPageSize - 1), kind_of(fault)};
}

mmu::FaultResult::Kind CoreSteps::handle_tdp_fault(const Op& op, const mmu::TdpFault& fault) {
  note_tdp_fault(op, fault);
  const mmu::FaultResult r = vcpu(op).handle_tdp_fault(fault);
  if (r.kind != mmu::FaultResult::Kind::kLater) return r.kind;
  vcpu(op).async_page_ready(r.token);  // it has nothing else to do meanwhile
  return mmu::FaultResult::Kind::kRetry;
}

bool CoreSteps::answer_tdp_fault(const Op& op, const mmu::TdpFault& fault, Outcome& out) {
  note_tdp_fault(op, fault);
  if (!twinwalk::answer_tdp_fault(vcpu(op), op, fault, out)) return false;
  // What the emulator met at another address than the processor the core did not name.
  const bool exits = out.kind == OutcomeKind::kMmio || out.kind == OutcomeKind::kMemoryFault;
  if (exits && (out.gpa[0] ^ fault.gpa.raw) >= mmu::kPageSize)
    out.kind = host_steps_.exit_at(out.gpa[0]);
  return true;
}

void CoreSteps::get(const Op& op, Outcome& out) {
  const mmu::Vcpu& cpu = vcpu(op);
  Registers r = core_.registers(op.vcpu);
  r.cr0 = cpu.cr0();
  r.cr3 = cpu.cr3();
  r.cr4 = cpu.cr4();
  r.efer = cpu.efer();
  r.pkru = cpu.pkru();
  out.kind = OutcomeKind::kOk;
  out.value = value_of(r, op.reg());
}

void CoreSteps::guest_store(const Op& op, Outcome& out) {
  using Kind = mmu::EmulateResult::Kind;
  for (unsigned tries = 0; tries <= refault_bound_;) {
    const mmu::EmulateResult r =
        vcpu(op).write_physical(mmu::Gpa{op.gpa}, static_cast<unsigned>(op.size), op.value);
    if (r.kind == Kind::kDone) {
      if (in_identity_map(core_.machine(), op.gpa)) host_steps_.restore_identity_map();
      return;
    }
    if (r.kind == Kind::kMmio) {
      out.kind = host_steps_.exit_at(r.gpa.raw);
      out.gpa[0] = r.gpa.raw;
      out.write = true;
      return;
    }
    if (!host_.memory_comes_back() && !host_.let_others_go_on()) ++tries;
  }
  complaints_.add(Complaint::kLiveness, "the emulated store never completes");
  out.kind = OutcomeKind::kRefused;
}

}  // namespace twinwalk
