#include "mmu_core/tdp/hardware.h"

#include <cstring>

#include "mmu_core/flush.h"
#include "mmu_core/registers.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/tdp/identity_map.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

bool paging(const VcpuState& v) { return v.regs.cr0 & cr0::kPg; }

// The guest's caching bits mean nothing here: EPT entries say write-back and to ignore PAT.
u64 hardware_cr0(const VcpuState& v, bool on_identity_map) {
  u64 cr0 = v.regs.cr0 & ~(cr0::kCd | cr0::kNw);
  if (v.vm->tdp.format.ept) cr0 |= cr0::kNe;  // VMX wants it
  if (on_identity_map) cr0 |= cr0::kPe | cr0::kPg;
  return cr0;
}

// The identity map is a page directory of 4M pages. What acts only with paging must not begin to.
u64 hardware_cr4(const VcpuState& v, bool on_identity_map) {
  u64 cr4 = v.regs.cr4;
  if (v.vm->tdp.format.ept) cr4 |= cr4::kVmxe;  // VMX wants it
  if (!on_identity_map) return cr4;
  return (cr4 & ~(cr4::kPae | cr4::kSmep | cr4::kSmap | cr4::kPke)) | cr4::kPse;
}

}  // namespace

EntryState enter(VcpuState& v) {
  VmState& vm = *v.vm;
  const Format& f = vm.tdp.format;
  EntryState e;
  if (vm.config.options.extra_flush) flush::all(vm);
  // Others may ask again whenever a lock is let go (KVM: kvm_vcpu_exit_request).
  do {
    if (v.free_obsolete_roots.exchange(false)) {
      unload_obsolete(v);
    }
    if (!load_all(v)) return e;
  } while (v.free_obsolete_roots);
  const bool on_identity_map = f.ept && !vm.config.tdp.unrestricted && !paging(v);
  if (on_identity_map && !write_identity_map(v)) return e;
  // Last: whether there is a log may change while others run.
  if (!dirty_ring::prepare(v) || !pml::prepare(v, e.pml)) return e;
  e.ring_full = dirty_ring::is_due(v);
  if (e.ring_full) return e;
  e.ok = true;
  e.root = v.tdp.root->hpa;
  e.levels = f.levels;
  e.tdp_pointer = pointer(f, e.root);
  if (has_private(v) && !vm.config.external_private)
    e.private_pointer = pointer(f, v.tdp.private_root->hpa);
  e.pcid = flush::hardware_pcid(v);
  e.smep = v.context.smep;
  e.smap = v.context.smap;
  e.pke = v.context.pke;
  e.guest_cr0 = hardware_cr0(v, on_identity_map);
  e.guest_cr3 = on_identity_map ? vm.config.identity_map.raw : v.regs.cr3;
  e.guest_cr4 = hardware_cr4(v, on_identity_map);
  e.pdptes_valid = f.ept && v.context.mode == &kPae;
  if (e.pdptes_valid) std::memcpy(e.pdpte, v.regs.pdpte, sizeof e.pdpte);
  return e;
}

void start_over(VcpuState& v) {
  pml::flush(v, pml::kFull);  // while it is known of which address space
  unload(v);
  VmState& vm = *v.vm;
  bump(vm.stats.flushes);
  FlushRequest all;
  all.vcpu = v.id;
  vm.platform.flush_tlb(all);
}

}  // namespace mmu::tdp
