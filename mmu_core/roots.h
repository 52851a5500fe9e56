#ifndef MMU_CORE_ROOTS_H_
#define MMU_CORE_ROOTS_H_

// Roots: loading, the cache of previous ones, and what invalidations do to
// them (KVM: kvm_mmu_load, kvm_mmu_new_pgd, kvm_invalidate_pcid, kvm_mmu_invlpg).

#include "mmu_core/state.h"

namespace mmu::roots {

// Makes vcpu.root valid for the current CR3, PDPTEs and role. False: no memory. Flushes the current
// PCID, since where the root has been is not known, and syncs what hangs below it.
bool load(VcpuState& vcpu);
// The same as long as others ask meanwhile for what is obsolete to go: they may whenever a lock is
// let go (KVM: kvm_vcpu_exit_request).
bool make_ready(VcpuState& vcpu);
// CR3 is about to become `cr3` (bit 63 stripped). In IA-32e mode keeps the old root among the
// previous ones and takes the new one from there if it is cached. An array is never kept (KVM:
// fast_pgd_switch); it stays if the new CR3 names the same tables.
void switch_to(VcpuState& vcpu, u64 cr3);
// vcpu.role is another one now. If that is for another paging mode, what was current in IA-32e mode
// is kept among the previous roots, which a load() on the way back finds; otherwise all roots go.
void role_changed(VcpuState& vcpu, bool other_mode);

// A page of it is invalid or of an older generation (KVM: is_obsolete_root).
bool is_obsolete(const VcpuState& vcpu, const Root& root);

void free_root(VcpuState& vcpu, Root& root);
void free_current(VcpuState& vcpu);  // takes the mmu lock
void free_all(VcpuState& vcpu);
void free_previous(VcpuState& vcpu);         // mmu lock held; the caller commits
void free_previous_locked(VcpuState& vcpu);  // takes the lock itself
// Drops what became obsolete or invalid, and dummies (a memslot may have appeared).
void free_obsolete(VcpuState& vcpu);

// Guest invalidations. Each leaves nothing stale that the instruction names, in hardware or in the
// shadow.
void refresh_current(VcpuState& vcpu);              // what is current: synced and flushed
void invalidate_pcid(VcpuState& vcpu, u16 pcid);    // all but globals
void invalidate_address(VcpuState& vcpu, Gva gva);  // in every cached root
void invalidate_everything(VcpuState& vcpu);
// The shadow entry of one address in the roots of the current PCID: before a #PF is handed to the
// guest, which by itself invalidates that address there (SDM 3A "Operations that Invalidate TLBs
// and Paging-Structure Caches").
void sync_address(VcpuState& vcpu, Gva gva);

}  // namespace mmu::roots

#endif  // MMU_CORE_ROOTS_H_
