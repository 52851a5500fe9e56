#ifndef MMU_CORE_PAGE_TRACK_H_
#define MMU_CORE_PAGE_TRACK_H_

// Write tracking by others than shadow paging: who has tables of its own made from a guest's page
// wants to hear of each store to it (KVM: page_track.c, kvm_page_track_register_notifier). Such a
// page is mapped neither writable nor by a large page that is; what is written to it goes through
// GuestMemory, which tells the platform.

#include "mmu_core/state.h"

namespace mmu::page_track {

// Once more, or once less. kInvalid, false: see Vm::track_writes, Vm::untrack_writes.
Status add(VmState& vm, u32 space, Gfn gfn);
bool remove(VmState& vm, u32 space, Gfn gfn);

// Is a page of the slot tracked?
bool any(VmState& vm, const Memslot& slot);

}  // namespace mmu::page_track

#endif  // MMU_CORE_PAGE_TRACK_H_
