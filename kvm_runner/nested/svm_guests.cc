#include "kvm_runner/nested/svm_guests.h"

#include <cstdio>
#include <cstring>

#include "kvm_runner/guest_memory.h"
#include "kvm_runner/harness_image.h"
#include "kvm_runner/nested/vmcb.h"
#include "kvm_runner/payload/payload32.h"

namespace twinwalk::kvm {
namespace {

constexpr std::uint64_t kNestedTable = pte::kP | pte::kW | pte::kU | pte::kA;
constexpr std::uint64_t kDr6AtReset = 0xffff'0ff0, kDr7AtReset = 0x400;

unsigned vmcb_page(unsigned vcpu) { return harness_page::kVmcb + vcpu; }

// Of the guest, as it left.
Registers registers_in(const Vmcb& block) {
  Registers r;
  r.cr0 = block.get<std::uint64_t>(vmcb::kCr0);
  r.cr3 = block.get<std::uint64_t>(vmcb::kCr3);
  r.cr4 = block.get<std::uint64_t>(vmcb::kCr4);
  r.efer = block.get<std::uint64_t>(vmcb::kEfer);
  return r;
}

// The runner's pages at their own addresses, by one entry: what is not backed nobody asks for.
void build_nested_tables(const Layout& layout, Vm& vm) {
  const auto table = [&](unsigned page) { return vm.harness_words(page); };
  table(harness_page::kNestedPml4)[layout.base >> 39 & 511] = SvmGuests::entry_to_runner(layout, 4);
  table(harness_page::kNestedPdpt)[layout.base >> 30 & 511] = SvmGuests::entry_to_runner(layout, 3);
  table(harness_page::kNestedPd)[layout.base >> 21 & 511] =
      layout.base | kNestedTable | pte::kD | pte::kPs;
}

// A root of that mode with nothing but the runner's entry.
void put_own_root(const Layout& layout, Mode mode, std::uint64_t* root) {
  const RunnerEntry entry = layout.entry_of(mode);
  std::memcpy(reinterpret_cast<unsigned char*>(root) + entry.offset, &entry.value, entry.bytes);
}

// Ring 0.
void put_segments(Vmcb& block, const Layout& layout, bool long_mode, unsigned vcpu) {
  kvm_sregs sregs{};
  set_descriptor_registers(layout, long_mode, sregs, vcpu);
  block.put_segment(vmcb::kEs, sregs.es);
  block.put_segment(vmcb::kCs, sregs.cs);
  block.put_segment(vmcb::kSs, sregs.ss);
  block.put_segment(vmcb::kDs, sregs.ds);
  block.put_table(vmcb::kGdtr, sregs.gdt);
  block.put_table(vmcb::kIdtr, sregs.idt);
  block.put(vmcb::kCpl, std::uint8_t{0});
}

}  // namespace

Registers SvmGuests::hypervisor_registers(const Layout& layout, unsigned levels, bool nxe) {
  Registers r;
  r.cr3 = layout.gpa(harness_page::kHypervisorRoot);
  r.cr4 = cr4::kPae | (levels == 5 ? cr4::kLa57 : 0);
  r.efer = efer::kSvme | efer::kLme | efer::kLma | (nxe ? efer::kNxe : 0);
  return r;
}

std::uint64_t SvmGuests::entry_to_runner(const Layout& layout, unsigned level) {
  switch (level) {
    case 5:
      return layout.gpa(harness_page::kNestedPml4) | kNestedTable;
    case 4:
      return layout.gpa(harness_page::kNestedPdpt) | kNestedTable;
    default:
      return layout.gpa(harness_page::kNestedPd) | kNestedTable;
  }
}

SvmGuests::SvmGuests(Vm& vm, const Layout& layout, unsigned levels, unsigned vcpus,
                     const Registers& registers)
    : vm_(vm), layout_(layout) {
  build_nested_tables(layout, vm);
  put_own_root(layout, levels == 5 ? Mode::k5Level : Mode::k4Level,
               vm.harness_words(harness_page::kHypervisorRoot));
  for (unsigned v = 0; v < vcpus; ++v) {
    Vmcb block(vm.harness_words(vmcb_page(v)));
    block.put(vmcb::kIntercepts3, vmcb::kInterceptNmi | vmcb::kInterceptShutdown);
    block.put(vmcb::kIntercepts4, vmcb::kInterceptVmrun | vmcb::kInterceptVmmcall);
    block.put(vmcb::kNestedControl, vmcb::kNestedPaging);
    block.put(vmcb::kPat, vmcb::kPatAtReset);
    block.put(vmcb::kDr6, kDr6AtReset);
    block.put(vmcb::kDr7, kDr7AtReset);
    // PE as for guests of one dimension: the runner has no code for real mode.
    block.put(vmcb::kCr0, registers.cr0 | cr0::kPe);
    block.put(vmcb::kCr3, registers.cr3);
    block.put(vmcb::kCr4, registers.cr4);
    block.put(vmcb::kEfer, registers.efer | efer::kSvme);
  }
}

// On a root of the runner's own: that of the guest need not lead anywhere yet.
StubExit SvmGuests::enter(unsigned vcpu, std::uint64_t root, std::uint32_t asid,
                          std::uint8_t tlb_control) {
  if (StubExit back = come_back(vcpu); back.kind != StubExit::Kind::kDone) return back;
  Vmcb block(vm_.harness_words(vmcb_page(vcpu)));
  const auto old_root = block.get<std::uint64_t>(vmcb::kNestedCr3);
  const auto old_asid = block.get<std::uint32_t>(vmcb::kAsid);
  const Registers guest = registers_in(block);
  put_own_root(layout_, mode_of(guest.cr0, guest.cr4, guest.efer),
               vm_.harness_words(harness_page::kGuestRoot));
  block.put(vmcb::kNestedCr3, root);
  block.put(vmcb::kAsid, asid);
  block.put(vmcb::kTlbControl, tlb_control);
  block.put(vmcb::kCr3, layout_.gpa(harness_page::kGuestRoot));
  StubExit exit = vmrun(vcpu, Stub::kVmmcall);
  block.put(vmcb::kTlbControl, std::uint8_t{0});
  block.put(vmcb::kCr3, guest.cr3);
  if (exit.kind == StubExit::Kind::kLeftGuest) {  // the guest is the one before
    block.put(vmcb::kNestedCr3, old_root);
    block.put(vmcb::kAsid, old_asid);
    return exit;
  }
  cpus_[vcpu].entered = true;
  cpus_[vcpu].root = root;
  return exit;
}

StubExit SvmGuests::run(unsigned vcpu, const StubCall& call, std::uint64_t own_entry) {
  if (!cpus_[vcpu].in_guest) {
    StubExit entry = vmrun(vcpu, Stub::kNothing);
    if (!cpus_[vcpu].in_guest || entry.kind != StubExit::Kind::kDone) return entry;
  }
  StubExit exit = vm_.run(vcpu, call);
  if (exit.kind == StubExit::Kind::kLeftGuest) {
    read_exit(vcpu, exit);
    const std::uint64_t at = exit.nested.gpa;
    const bool own = at == own_entry || layout_.overlaps(at, 1);
    if (exit.kind == StubExit::Kind::kSecondDimension && own) finish_without_way(vcpu, exit);
  }
  return exit;
}

// The stub itself was in reach when it began: by now it has stored to the tables that lead to it.
void SvmGuests::finish_without_way(unsigned vcpu, StubExit& exit) const {
  const auto rax = Vmcb(vm_.harness_words(vmcb_page(vcpu))).get<std::uint64_t>(vmcb::kRax);
  constexpr std::uint64_t kLow = 0xffff'ffff;
  exit.kind = StubExit::Kind::kDone;
  exit.rax = cpus_[vcpu].long_mode ? rax : (exit.rax & ~kLow) | (rax & kLow);
}

StubExit SvmGuests::run_outside(unsigned vcpu, const StubCall& call) {
  StubExit back = come_back(vcpu);
  return back.kind == StubExit::Kind::kDone ? vm_.run(vcpu, call) : back;
}

// Enters the guest, whose registers are those with which it left, at a stub of its ring 0.
StubExit SvmGuests::vmrun(unsigned vcpu, Stub first) {
  Cpu& cpu = cpus_[vcpu];
  Vmcb block(vm_.harness_words(vmcb_page(vcpu)));
  cpu.long_mode = !is_legacy(registers_in(block));
  put_segments(block, layout_, cpu.long_mode, vcpu);
  const unsigned code = cpu.long_mode ? harness_page::kCode : harness_page::kCode32;
  const std::uint64_t stub = cpu.long_mode ? offset_of(first) : offset_of_32(first);
  block.put(vmcb::kRip, layout_.linear(cpu.long_mode, code) + stub);
  block.put(vmcb::kRsp, stack_top(layout_, cpu.long_mode, vcpu));
  block.put(vmcb::kRflags, kRflagsFixed);
  block.put(vmcb::kExitIntInfo, std::uint64_t{0});
  vm_.set_task(vcpu, cpu.long_mode);
  StubExit exit = vm_.run(vcpu, {Stub::kVmrun, 0, 0, 0, false});
  if (exit.kind == StubExit::Kind::kLeftGuest) {
    read_exit(vcpu, exit);
  } else {
    cpu.in_guest = true;
    vm_.set_code(vcpu, cpu.long_mode);
  }
  return exit;
}

// What the hypervisor was told.
void SvmGuests::read_exit(unsigned vcpu, StubExit& exit) {
  cpus_[vcpu].in_guest = false;
  vm_.set_code(vcpu, true);
  const Vmcb block(vm_.harness_words(vmcb_page(vcpu)));
  const auto code = block.get<std::uint32_t>(vmcb::kExitCode);
  switch (code) {
    case vmcb::kExitNmi:
    case vmcb::kExitVmmcall:
      exit.kind = StubExit::Kind::kDone;
      return;
    case vmcb::kExitNestedFault:
      exit.kind = StubExit::Kind::kSecondDimension;
      exit.nested = {NestedExit::Kind::kViolation, block.get<std::uint64_t>(vmcb::kExitInfo1),
                     block.get<std::uint64_t>(vmcb::kExitInfo2)};
      return;
    case vmcb::kExitInvalid:
      exit.why = "VMRUN found the guest's state to be invalid";
      return;
    default:
      exit.kind = StubExit::Kind::kBroken;
      exit.shutdown = code == vmcb::kExitShutdown;
      char text[48];
      std::snprintf(text, sizeof(text), "#VMEXIT %#x", code);
      exit.why = text;
  }
}

bool SvmGuests::call_back() {
  for (unsigned v = 0; v < vm_.vcpus(); ++v) {
    if (come_back(v).kind != StubExit::Kind::kDone) return false;
  }
  return true;
}

// By an NMI: the way to an instruction of the guest's may be gone by now.
StubExit SvmGuests::come_back(unsigned vcpu) {
  if (!cpus_[vcpu].in_guest) return {};
  vm_.set_nmi(vcpu, true);
  StubExit exit = run(vcpu, {Stub::kVmmcall, 0, 0, 0, false}, kUnknownGpa);
  vm_.set_nmi(vcpu, false);
  return exit;
}

}  // namespace twinwalk::kvm
