#ifndef MMU_CORE_SYNC_H_
#define MMU_CORE_SYNC_H_

// Bringing shadow entries in step with the guest's (KVM: FNAME(sync_spte),
// kvm_sync_page, mmu_sync_children, kvm_mmu_sync_roots).

#include "mmu_core/state.h"

namespace mmu::sync {

// What a guest leaf entry entitles a shadow entry to.
struct Entitlement {
  bool any = false;  // present, no reserved bit, accessed
  Gfn gfn;
  u8 access = 0;  // within `above`; without W while the guest's D is clear
  u8 pkey = 0;
};
Entitlement entitlement(const WalkContext& context, u64 gpte, unsigned level, u8 above);

// One entry of a level-1 indirect page: narrowed, widened or dropped as the guest's entry says now.
void entry(VcpuState& vcpu, ShadowPage& page, unsigned index);
// All entries of one page; false if the page is of another address-space role than this vCPU's, so
// that it cannot be judged by this vCPU's context: the caller zaps it.
bool page(VcpuState& vcpu, ShadowPage& page);
// Every unsync page below `page`: write-protected, synced, and no longer unsync. Pays the flush.
void children(VcpuState& vcpu, ShadowPage& page);

void root(VcpuState& vcpu, const Root& root);
void current_root(VcpuState& vcpu);
void previous_roots(VcpuState& vcpu);

}  // namespace mmu::sync

#endif  // MMU_CORE_SYNC_H_
