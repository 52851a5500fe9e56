#ifndef MMU_CORE_TRACKING_H_
#define MMU_CORE_TRACKING_H_

// What a shadowed guest table costs its gfn: no large mapping over it, and for
// tables above level 1 no writable mapping at all (KVM: account_shadowed, page_track).

#include "mmu_core/state.h"

namespace mmu::tracking {

// By an upper table, or by others (page_track.h).
inline bool is_tracked(const Memslot& slot, Gfn gfn) {
  return slot.tracked(gfn) != 0 || slot.watched(gfn) != 0;
}

// One more, or one less, of the reasons that forbid a large page over gfn.
void forbid_large(const Memslot& slot, Gfn gfn);
void allow_large(const Memslot& slot, Gfn gfn);

// Called when an indirect page enters or leaves the cache. shadow() write-protects existing
// mappings of the gfn.
void shadow(VcpuState& vcpu, const ShadowPage& page);
void unshadow(VmState& vm, const ShadowPage& page);

// Largest level at which gfn may be mapped, by the slot alone (KVM: __kvm_mmu_max_mapping_level).
u8 max_level(const Memslot& slot, Gfn gfn);

}  // namespace mmu::tracking

#endif  // MMU_CORE_TRACKING_H_
