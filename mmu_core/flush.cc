#include "mmu_core/flush.h"

namespace mmu::flush {
namespace {

void send_all(VmState& vm) {
  bump(vm.stats.flushes);
  vm.platform.flush_tlb(FlushRequest{});
}

}  // namespace

u16 hardware_pcid(const VcpuState& vcpu) {
  return vcpu.regs.cr4 & cr4::kPcide ? static_cast<u16>(vcpu.regs.cr3 & cr3::kPcid) : u16{0};
}

void all(VmState& vm) {
  vm.platform.yield(YieldPoint::kBeforeFlush, 0);
  send_all(vm);
}

void range(VmState& vm, Gfn gfn, u64 pages) {
  vm.platform.yield(YieldPoint::kBeforeFlush, 0);
  bump(vm.stats.flushes);
  FlushRequest r;
  r.kind = FlushRequest::Kind::kRange;
  r.gfn = gfn;
  r.pages = pages;
  vm.platform.flush_tlb(r);
}

void pay(VmState& vm) {
  if (!vm.flush_owed) return;
  vm.platform.yield(YieldPoint::kBeforeFlush, 0);
  vm.flush_owed = false;
  send_all(vm);
}

void current(VcpuState& vcpu) {
  bump(vcpu.vm->stats.flushes);
  FlushRequest r;
  r.kind = FlushRequest::Kind::kPcid;
  r.vcpu = vcpu.id;
  r.pcid = hardware_pcid(vcpu);
  vcpu.vm->platform.flush_tlb(r);
}

void address(VcpuState& vcpu, Gva gva) {
  bump(vcpu.vm->stats.flushes);
  FlushRequest r;
  r.kind = FlushRequest::Kind::kAddress;
  r.vcpu = vcpu.id;
  r.pcid = hardware_pcid(vcpu);
  r.gva = gva;
  vcpu.vm->platform.flush_tlb(r);
}

}  // namespace mmu::flush
