#ifndef MMU_CORE_ENTRIES_H_
#define MMU_CORE_ENTRIES_H_

// The only writers of shadow entries: each keeps count, reverse map, parent
// chain and owed flush in step with the entry.

#include "mmu_core/spte.h"
#include "mmu_core/state.h"

namespace mmu::entries {

// Hardware sets A and D in entries concurrently: all reads and writes are single 8-byte atomics.
u64 load(const SpteRef& ref);

// A leaf into an empty entry; adds it to the reverse map of (gfn, level).
void set_leaf(VcpuState& vcpu, SpteRef ref, u64 spte, Memslot& slot, Gfn gfn, u8 access);
// Another value for a leaf that maps the same frame for the same gfn (KVM: mmu_spte_update). Keeps
// A and D that the hardware set meanwhile; owes a flush if the change narrows.
void update_leaf(VmState& vm, SpteRef ref, u64 spte);
void set_mmio(VmState& vm, SpteRef ref, u64 spte);  // into an empty entry
// Links a child into an empty entry (KVM: link_shadow_page).
void link_child(VcpuState& vcpu, SpteRef ref, ShadowPage* child);

// Empties an entry whatever it holds: leaf with its reverse map, link with its parent chain, MMIO
// entry (KVM: mmu_page_zap_pte). Owes the flush.
void drop(VmState& vm, SpteRef ref);
// Drops every entry that a chain names, until the chain is empty.
void drop_chain(VmState& vm, const RmapHead& head);

// Takes W from every leaf that maps gfn at any size (KVM: kvm_mmu_slot_gfn_write_protect). True if
// any had it.
bool write_protect_gfn(VmState& vm, Memslot& slot, Gfn gfn);
bool write_protect_chain(VmState& vm, const RmapHead& head);

}  // namespace mmu::entries

#endif  // MMU_CORE_ENTRIES_H_
