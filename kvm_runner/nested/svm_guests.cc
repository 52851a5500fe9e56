#include "kvm_runner/nested/svm_guests.h"

#include <cstdio>

#include "kvm_runner/harness_image.h"
#include "kvm_runner/nested/vmcb.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kNestedTable = pte::kP | pte::kW | pte::kU | pte::kA;
constexpr std::uint32_t kDr6AtReset = 0xffff'0ff0, kDr7AtReset = 0x400;
constexpr std::uint64_t kRflagsFixed = 2, kRflagsAc = 1 << 18;

unsigned vmcb_page(unsigned vcpu) { return harness_page::kVmcb + vcpu; }

// The runner's pages at their own addresses, by one entry: what is not backed nobody asks for.
void build_nested_tables(const Layout& layout, Vm& vm) {
  vm.harness_words(harness_page::kNestedPdpt)[layout.base >> 30 & 511] =
      layout.gpa(harness_page::kNestedPd) | kNestedTable;
  vm.harness_words(harness_page::kNestedPd)[layout.base >> 21 & 511] =
      layout.base | kNestedTable | pte::kD | pte::kPs;
}

void put_ring(Vmcb& block, const kvm_sregs& sregs, std::uint8_t cpl) {
  block.put_segment(vmcb::kEs, sregs.es);
  block.put_segment(vmcb::kCs, sregs.cs);
  block.put_segment(vmcb::kSs, sregs.ss);
  block.put_segment(vmcb::kDs, sregs.ds);
  block.put(vmcb::kCpl, cpl);
}

}  // namespace

std::uint64_t SvmGuests::nested_root_entry(const Layout& layout) {
  return layout.gpa(harness_page::kNestedPdpt) | kNestedTable;
}

Registers SvmGuests::hypervisor_registers(const Layout& layout, bool nxe) {
  Registers r;
  r.cr3 = layout.gpa(harness_page::kPml4);
  r.efer = efer::kLme | efer::kLma | efer::kSvme | (nxe ? efer::kNxe : 0);
  return r;
}

SvmGuests::SvmGuests(Vm& vm, const Layout& layout, unsigned vcpus, const Registers& registers)
    : vm_(vm), layout_(layout) {
  build_nested_tables(layout, vm);
  for (unsigned v = 0; v < vcpus; ++v) {
    Vmcb block(vm.harness_words(vmcb_page(v)));
    block.put(vmcb::kIntercepts3, vmcb::kInterceptShutdown);
    block.put(vmcb::kIntercepts4, vmcb::kInterceptVmrun | vmcb::kInterceptVmmcall);
    block.put(vmcb::kNestedControl, vmcb::kNestedPaging);
    block.put(vmcb::kPat, vmcb::kPatAtReset);
    block.put(vmcb::kDr6, std::uint64_t{kDr6AtReset});
    block.put(vmcb::kDr7, std::uint64_t{kDr7AtReset});
    kvm_sregs sregs{};
    set_descriptor_registers(layout, true, sregs, v);
    block.put_table(vmcb::kGdtr, sregs.gdt);
    block.put_table(vmcb::kIdtr, sregs.idt);
    put_ring(block, sregs, 0);
    block.put(vmcb::kCr0, registers.cr0);
    block.put(vmcb::kCr3, registers.cr3);
    block.put(vmcb::kCr4, registers.cr4);
    block.put(vmcb::kEfer, registers.efer | efer::kSvme);
  }
}

// On the runner's own tables: those of the guest need not lead anywhere yet.
StubExit SvmGuests::enter(unsigned vcpu, std::uint64_t root, std::uint32_t asid,
                          std::uint8_t tlb_control) {
  if (StubExit back = come_back(vcpu); back.kind != StubExit::Kind::kDone) return back;
  Vmcb block(vm_.harness_words(vmcb_page(vcpu)));
  const auto old_root = block.get<std::uint64_t>(vmcb::kNestedCr3);
  const auto old_asid = block.get<std::uint32_t>(vmcb::kAsid);
  const auto cr3 = block.get<std::uint64_t>(vmcb::kCr3);
  block.put(vmcb::kNestedCr3, root);
  block.put(vmcb::kAsid, asid);
  block.put(vmcb::kTlbControl, tlb_control);
  block.put(vmcb::kCr3, layout_.gpa(harness_page::kPml4));
  StubExit exit = run_to_guest(vcpu, {Stub::kVmmcall, 0, 0, 0, false});
  block.put(vmcb::kTlbControl, std::uint8_t{0});
  block.put(vmcb::kCr3, cr3);
  if (exit.kind == StubExit::Kind::kLeftGuest) {  // refused: the guest is the one before
    block.put(vmcb::kNestedCr3, old_root);
    block.put(vmcb::kAsid, old_asid);
    return exit;
  }
  cpus_[vcpu].entered = true;
  cpus_[vcpu].root = root;
  return exit;
}

void SvmGuests::leave(unsigned vcpu) { cpus_[vcpu].entered = false; }

StubExit SvmGuests::run(unsigned vcpu, const StubCall& call) {
  if (!cpus_[vcpu].in_guest) return run_to_guest(vcpu, call);
  StubExit exit = vm_.run(vcpu, call);
  if (exit.kind == StubExit::Kind::kLeftGuest) read_exit(vcpu, exit);
  return exit;
}

StubExit SvmGuests::run_outside(unsigned vcpu, const StubCall& call) {
  StubExit back = come_back(vcpu);
  return back.kind == StubExit::Kind::kDone ? vm_.run(vcpu, call) : back;
}

StubExit SvmGuests::run_to_guest(unsigned vcpu, const StubCall& call) {
  Vmcb block(vm_.harness_words(vmcb_page(vcpu)));
  kvm_sregs sregs{};
  set_ring(sregs, call.cpl);
  put_ring(block, sregs, call.cpl);
  const unsigned code = call.cpl == 0 ? harness_page::kCode : harness_page::kUserCode;
  block.put(vmcb::kRip, layout_.linear(true, code) + offset_of(call.stub));
  block.put(vmcb::kRsp, stack_top(layout_, true, vcpu));
  block.put(vmcb::kRflags, kRflagsFixed | (call.ac ? kRflagsAc : 0));
  block.put(vmcb::kRax, std::uint64_t{0});
  block.put(vmcb::kExitCode, std::uint64_t{0});
  block.put(vmcb::kExitIntInfo, std::uint64_t{0});
  cpus_[vcpu].in_guest = true;
  StubExit exit = vm_.run(vcpu, {Stub::kVmrun, call.rdi, call.rsi, 0, false});
  if (exit.kind == StubExit::Kind::kLeftGuest) read_exit(vcpu, exit);
  return exit;
}

void SvmGuests::read_exit(unsigned vcpu, StubExit& exit) {
  cpus_[vcpu].in_guest = false;
  const Vmcb block(vm_.harness_words(vmcb_page(vcpu)));
  const auto code = block.get<std::uint64_t>(vmcb::kExitCode);
  switch (code) {
    case vmcb::kExitVmmcall:
      exit.kind = StubExit::Kind::kDone;
      return;
    case vmcb::kExitNestedFault:
      exit.kind = StubExit::Kind::kSecondDimension;
      exit.nested = {NestedExit::Kind::kViolation, block.get<std::uint64_t>(vmcb::kExitInfo1),
                     block.get<std::uint64_t>(vmcb::kExitInfo2)};
      return;
    case vmcb::kExitInvalid:
      return;
    default:
      exit.kind = StubExit::Kind::kBroken;
      exit.shutdown = code == vmcb::kExitShutdown;
      char text[48];
      std::snprintf(text, sizeof(text), "#VMEXIT %#llx", static_cast<unsigned long long>(code));
      exit.why = text;
  }
}

StubExit SvmGuests::come_back(unsigned vcpu) {
  if (!cpus_[vcpu].in_guest) return {};
  return run(vcpu, {Stub::kVmmcall, 0, 0, 0, false});
}

}  // namespace twinwalk::kvm
