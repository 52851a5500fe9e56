#include "kvm_runner/vmx_image/core_vmx_subject.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kvm_runner/vmx_image/runner_pages.h"
#include "kvm_runner/vmx_image/vmx/instructions.h"

namespace twinwalk::vmx {
namespace {

// The processor runs 64-bit stubs: guests in the other modes hang below its root, too.
constexpr std::uint8_t kLeastLevels = 4;
constexpr std::uint32_t kEferMsr = 0xc000'0080;

// What a shadow root is walked with, whatever the guest has; some more where the core asks for it.
constexpr std::uint64_t kShadowCr0 = cr0::kPe | cr0::kEt | cr0::kNe | cr0::kWp | cr0::kPg,
                        kShadowCr4 = cr4::kPae | cr4::kPge,
                        kShadowEfer = efer::kLme | efer::kLma | efer::kNxe;

bool is_control(Reg reg) { return reg == Reg::kCr0 || reg == Reg::kCr3 || reg == Reg::kCr4; }

std::uint64_t take_runner_pages() {
  constexpr std::size_t kBytes = runner_page::kCount * kvm::kPage;
  void* const at = ::operator new(kBytes, std::align_val_t{kvm::kPage});
  std::memset(at, 0, kBytes);
  const auto first = reinterpret_cast<std::uint64_t>(at);
  for (unsigned n = 0; n < runner_page::kCount; ++n)
    build_runner_page(n, first, reinterpret_cast<std::uint64_t*>(first + n * kvm::kPage));
  return first;
}

}  // namespace

CoreVmxSubject::CoreVmxSubject(Processor& processor, const kvm::CoreArena::Place& place)
    : processor_(processor), pages_(take_runner_pages()) {
  arena_.use(place);
  info_ = {"core-vmx", "in-tree core on " + describe(processor.capabilities()), Profile::kKvm,
           true};
}

SkipReason CoreVmxSubject::prepare(const Machine& machine) {
  reset_host(machine);
  processor_.flush_all();
  for (std::uint16_t& pcid : loaded_pcid_) pcid = 0;
  if (machine.nested != Nesting::kNone) return SkipReason::kNestedNotSupported;
  if (!fit_maxphyaddr(machine, processor_.capabilities().maxphyaddr))
    return SkipReason::kHostLacksFeature;
  SkipReason reason = SkipReason::kModeNotSupported;
  if (machine.core == Dimension::kShadow) reason = prepare_shadow(machine);
  if (machine.core == Dimension::kEpt) reason = prepare_ept(machine);
  image_valid_ = reason == SkipReason::kNone;
  return reason;
}

SkipReason CoreVmxSubject::prepare_shadow(const Machine& machine) {
  if (!has_host(feature::kNx)) return SkipReason::kHostLacksFeature;
  machine_.host_levels = std::max(machine.host_levels, kLeastLevels);
  const bool there = machine_.host_levels <= kLeastLevels || has_host(feature::kLa57);
  return there ? SkipReason::kNone : SkipReason::kHostLacksFeature;
}

std::uint64_t CoreVmxSubject::runner_entry(unsigned levels) const {
  (void)levels;
  return runner_root_entry(pages_);
}

// ---- one dimension

Entry CoreVmxSubject::shadow_entry(const Op& op, const mmu::EntryState& entry) {
  const Capabilities& c = processor_.capabilities();
  Entry e;
  e.cr0 = kShadowCr0 | c.cr0_must;
  e.cr3 = entry.root.raw;
  e.cr4 = kShadowCr4 | c.cr4_must;
  if (entry.smep && has_host(feature::kSmep)) e.cr4 |= cr4::kSmep;
  if (entry.smap && has_host(feature::kSmap)) e.cr4 |= cr4::kSmap;
  if (entry.pke && has_host(feature::kPku)) {
    e.cr4 |= cr4::kPke;
    write_pkru(registers_of(op).pkru);
  }
  if (has_host(feature::kPcid)) {
    e.cr4 |= cr4::kPcide;
    e.cr3 |= entry.pcid;
  } else if (loaded_pcid_[op.vcpu] != entry.pcid) {  // no tags: it is another address space
    processor_.flush_vcpu(op.vcpu);
    loaded_pcid_[op.vcpu] = entry.pcid;
  }
  e.efer = kShadowEfer;
  e.cr0_mask = e.cr4_mask = ~std::uint64_t{0};
  e.cr0_read = registers_of(op).cr0;
  e.cr4_read = registers_of(op).cr4;
  return e;
}

kvm::StubExit CoreVmxSubject::run_in_guest(const Op& op, const mmu::EntryState& entry,
                                           const kvm::StubCall& call) {
  const bool nested = entry.tdp_pointer != 0;
  Entry e = nested ? ept_entry(registers_of(op), entry) : shadow_entry(op, entry);
  e.rip = linear_of(call.stub, call.cpl);
  e.cpl = call.cpl;
  e.ac = call.ac;
  e.registers.rdi = call.rdi;
  e.registers.rsi = call.rsi;
  const Exit exit = processor_.run(op.vcpu, e);
  if (e.pml != 0) steps().flush_pml(op, exit.pml_index);
  return stub_exit_of(exit);
}

// On a root that leads to the stubs and nowhere else: these exits come before any translation.
void CoreVmxSubject::execute_and_exit(const Op& op) {
  if (machine_.core != Dimension::kShadow) return;
  const bool moves = op.verb == Verb::kMov, reads = op.verb == Verb::kGet;
  if ((moves || reads) && !is_control(op.reg()) && op.reg() != Reg::kEfer) return;
  kvm::Stub stub = kvm::Stub::kWriteCr0;
  std::uint64_t rdi = op.value, rsi = 0;
  if (reads) return;
  if (op.verb == Verb::kInvlpg) {
    stub = kvm::Stub::kInvlpg;
    rdi = op.gva;
  } else if (op.verb == Verb::kInvpcid) {
    if (!has_host(feature::kInvpcid)) return;
    stub = kvm::Stub::kInvpcid;
    rdi = op.type;
    rsi = runner_linear(runner_page::kDescriptor);
    auto* const descriptor =
        reinterpret_cast<std::uint64_t*>(pages_ + runner_page::kDescriptor * kvm::kPage);
    descriptor[0] = op.pcid;
    descriptor[1] = op.gva;
  } else if (op.reg() == Reg::kCr3) {
    stub = kvm::Stub::kWriteCr3;
  } else if (op.reg() == Reg::kCr4) {
    stub = kvm::Stub::kWriteCr4;
  } else if (op.reg() == Reg::kEfer) {
    stub = kvm::Stub::kWriteEfer;
  }
  mmu::EntryState own;
  own.root = mmu::Hpa{pages_ + runner_page::kPml4 * kvm::kPage};
  Entry e = shadow_entry(op, own);
  e.rip = linear_of(stub, 0);
  e.registers.rdi = rdi;
  e.registers.rsi = rsi;
  complain_if_not_exited(op, processor_.run(op.vcpu, e));
}

// SDM 3D "Exit Qualification for Control-Register Accesses": register, then access type, then
// operand.
void CoreVmxSubject::complain_if_not_exited(const Op& op, const Exit& exit) {
  constexpr unsigned kRdi = 7;
  const auto is_move_to = [&](unsigned control) {
    return exit.reason == ExitReason::kCrAccess && exit.qualification == (control | kRdi << 8) &&
           exit.registers.rdi == op.value;
  };
  const auto is_unchanged = [&](std::uint64_t now) {  // no exit then
    return exit.reason == ExitReason::kIo && op.value == now;
  };
  bool exited = false;
  if (!exit.entered) {
    exited = false;
  } else if (op.verb == Verb::kInvlpg) {
    exited = exit.reason == ExitReason::kInvlpg && exit.qualification == op.gva;
  } else if (op.verb == Verb::kInvpcid) {
    exited = exit.reason == ExitReason::kInvpcid && exit.registers.rdi == op.type;
  } else if (op.reg() == Reg::kCr0) {
    exited = is_move_to(0) || is_unchanged(registers_of(op).cr0);
  } else if (op.reg() == Reg::kCr3) {
    exited = is_move_to(3);
  } else if (op.reg() == Reg::kCr4) {
    exited = is_move_to(4) || is_unchanged(registers_of(op).cr4);
  } else {
    exited = exit.reason == ExitReason::kWrmsr && exit.registers.rcx == kEferMsr &&
             exit.registers.rdi == op.value;
  }
  if (!exited)
    complaints_.add(Complaint::kTrap, "an instruction of the guest that has to exit does not");
}

void CoreVmxSubject::flush_tlb(const mmu::FlushRequest& request) {
  if (machine_.core == Dimension::kShadow) {
    processor_.flush(request);
  } else {
    processor_.flush_nested(request);
  }
}

}  // namespace twinwalk::vmx
