#include "harness/core_subject_tdp.h"

#include <algorithm>
#include <atomic>

#include "harness/core/ept_exit.h"
#include "harness/trace/x86.h"

namespace twinwalk {

using processor::NestedExit;
using processor::NestedFormat;
using processor::PageLog;

std::uint64_t HostPhysical::load_nested(std::uint64_t hpa) {
  std::uint64_t* const slot = memory_.table_entry(hpa);
  return slot ? std::atomic_ref<std::uint64_t>(*slot).load() : 0;
}

bool HostPhysical::update_nested(std::uint64_t hpa, std::uint64_t expected, std::uint64_t desired) {
  std::uint64_t* const slot = memory_.table_entry(hpa);
  return slot && std::atomic_ref<std::uint64_t>(*slot).compare_exchange_strong(expected, desired);
}

void CoreTdp::reset(const Machine& machine, std::uint64_t private_pointer) {
  processor_.reset(machine);
  vendor_ = machine.vendor;
  kind_ = machine.core == Dimension::kNpt ? NestedFormat::Kind::kNpt : NestedFormat::Kind::kEpt;
  shared_bit_ = shared_bit(machine);
  private_pointer_ = private_pointer;
  for (PageLog& log : log_) log = PageLog{};
  for (Entered& e : entered_) e = Entered{};
}

processor::GuestControls CoreTdp::controls_of(const Registers& registers, unsigned vcpu) const {
  processor::GuestControls controls;
  controls.registers = registers;
  controls.vcpu = static_cast<std::uint8_t>(vcpu);
  controls.nested.kind = kind_;
  controls.nested.vpid = kVpid;
  controls.nested.pointer = entered_[vcpu].pointer;
  controls.nested.private_pointer = entered_[vcpu].private_pointer;
  controls.nested.shared_bit = shared_bit_;
  std::copy(entered_[vcpu].pdpte, entered_[vcpu].pdpte + 4, controls.pdpte);
  return controls;
}

void CoreTdp::access(const Registers& registers, unsigned vcpu, const mmu::EntryState& entry,
                     const processor::Access& access, processor::GuestResult& result) {
  entered_[vcpu].pointer = entry.tdp_pointer;
  entered_[vcpu].private_pointer = private_pointer_ != 0 ? private_pointer_ : entry.private_pointer;
  std::fill(entered_[vcpu].pdpte, entered_[vcpu].pdpte + 4, 0);
  if (entry.pdptes_valid) std::copy(entry.pdpte, entry.pdpte + 4, entered_[vcpu].pdpte);
  processor::GuestControls controls = controls_of(registers, vcpu);
  controls.registers.cr0 = entry.guest_cr0;
  controls.registers.cr3 = entry.guest_cr3;
  controls.registers.cr4 = entry.guest_cr4;
  PageLog& log = log_[vcpu];
  std::uint64_t* const page = entry.pml.raw ? memory_.log_page(entry.pml.raw) : nullptr;
  if (page != log.page) log = PageLog{};  // VM entry with another one, and so another index
  log.page = page;
  if (page) controls.nested.log = &log;
  processor_.access(controls, access, result);
}

bool CoreTdp::nested_path(unsigned vcpu, std::uint64_t gpa, NestedPath& path) const {
  if (entered_[vcpu].pointer == 0) return false;
  processor::NestedControls nested;
  nested.kind = kind_;
  nested.pointer = entered_[vcpu].pointer;
  nested.private_pointer = entered_[vcpu].private_pointer;
  nested.shared_bit = shared_bit_;
  processor_.peek(nested, gpa, path);
  return true;
}

mmu::TdpFault CoreTdp::fault_of(const NestedExit& exit) const {
  const std::uint64_t q = exit.qualification;
  switch (exit.kind) {
    case NestedExit::Kind::kEptViolation:
      return fault_of_violation(exit.gpa, q, shared_bit_);
    case NestedExit::Kind::kEptMisconfig:
      return fault_of_misconfiguration(exit.gpa, shared_bit_);
    case NestedExit::Kind::kNestedFault: {
      mmu::TdpFault fault = fault_at(exit.gpa, shared_bit_);
      fault.present = q & pfec::kP;
      fault.write = q & pfec::kW;
      fault.fetch = q & pfec::kI;
      fault.read = !fault.write && !fault.fetch;
      fault.reserved = q & pfec::kRsvd;
      fault.table = q & npfec::kTable;
      return fault;
    }
    case NestedExit::Kind::kPageLogFull:
      break;
  }
  return {};
}

mmu::u16 CoreTdp::take_log_index(unsigned vcpu) {
  const mmu::u16 index = log_[vcpu].index;
  log_[vcpu].index = PageLog::kEntries - 1;
  return index;
}

void CoreTdp::executed(const Op& op, const Registers& before, const Registers& after) {
  const processor::GuestControls controls = controls_of(after, op.vcpu);
  switch (op.verb) {
    case Verb::kMov:
      return processor_.registers_written(
          controls, processor::effect_of_write(vendor_, before, after, op.reg(), op.value));
    case Verb::kInvlpg:
      return processor_.invlpg(controls, op.gva);
    case Verb::kInvpcid:
      return processor_.invpcid(controls, static_cast<unsigned>(op.type),
                                static_cast<std::uint16_t>(op.pcid), op.gva);
    case Verb::kInvlpga:
      // Intercepted, as all of SVM is: of its own ASID the hypervisor does it (KVM treats it as
      // INVLPG).
      if (static_cast<std::uint32_t>(op.value) == 0)
        processor_.invlpga(after, static_cast<std::uint8_t>(op.vcpu), kVpid, op.gva);
      return;
    default:
      return;
  }
}

// By INVEPT of all contexts and, for the rest, INVVPID; with NPT by TLB_CONTROL and INVLPGA.
void CoreTdp::flush(const mmu::FlushRequest& request) {
  using Kind = mmu::FlushRequest::Kind;
  for (std::uint8_t v = 0; v < kMaxVcpus; ++v) {
    if (request.vcpu != mmu::FlushRequest::kAllVcpus && request.vcpu != v) continue;
    switch (request.kind) {
      case Kind::kAll:
      case Kind::kRange:
        if (kind_ == NestedFormat::Kind::kNpt) {
          processor_.tlb_control(v, kVpid, 3);
        } else {
          processor_.invept(v, 2, 0);
        }
        break;
      case Kind::kPcid:
        processor_.invvpid(v, 3, kVpid, 0);
        break;
      case Kind::kAddress:
        processor_.invvpid(v, 0, kVpid, request.gva.raw);
        break;
    }
  }
}

}  // namespace twinwalk
