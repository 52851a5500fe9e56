#ifndef MMU_CORE_ZAP_H_
#define MMU_CORE_ZAP_H_

// Removal of shadow pages in two steps: zap::page takes one out of every
// structure, zap::commit flushes and then frees (KVM: __kvm_mmu_prepare_zap_page,
// kvm_mmu_commit_zap_page, kvm_mmu_zap_all_fast).

#include "mmu_core/state.h"

namespace mmu::zap {

// Empties and unlinks the page and zaps the unsync pages below it. A page that is some vCPU's root
// becomes invalid and lives on, empty, until the last root reference goes; its vCPUs are asked to
// drop it. Nothing if already zapped.
void page(VmState& vm, ShadowPage* page);
// Flushes what is owed and frees the pages zapped since the last commit, in this order.
void commit(VmState& vm);
// A root reference went away.
void put_root(VmState& vm, ShadowPage* page);

// Makes every page obsolete at once by generation, then zaps them.
void all_fast(VmState& vm);
// Zaps every page that shadows a table in gfn of that address space, so that the frame is an
// ordinary one (KVM:
// __kvm_mmu_unprotect_gfn_and_retry).
void unprotect(VmState& vm, u32 space, Gfn gfn);
// Zaps what for_each_indirect callbacks marked `doomed` for this gfn.
void doomed(VmState& vm, u32 space, Gfn gfn);

}  // namespace mmu::zap

#endif  // MMU_CORE_ZAP_H_
