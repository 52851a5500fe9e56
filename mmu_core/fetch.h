#ifndef MMU_CORE_FETCH_H_
#define MMU_CORE_FETCH_H_

// Builds the shadow path for a completed guest walk and installs the leaf
// (KVM: FNAME(fetch), mmu_set_spte).

#include "mmu_core/guest_walker.h"
#include "mmu_core/state.h"

namespace mmu {

struct Fetch {
  const GuestWalk* walk = nullptr;
  u8 access = 0;            // rights to install (after CR0.WP and dirty adjustments)
  bool write = false;       // the fault is a write
  bool ahead = false;       // there is no access yet: no table becomes unsync for it
  Memslot* slot = nullptr;  // null: MMIO
  u64 slot_generation = 0;  // of the table in which `slot` was looked up: it points into that table
  FrameLookup frame;
};

enum class FetchResult : u8 {
  kInstalled,
  kWriteProtected,  // installed read-only: the write must be emulated
  kMmio,
  kGuestChanged,  // an entry changed since the walk: fault again
};

// Precondition: mmu lock held, caches topped up, pages available, root valid and not obsolete.
FetchResult fetch(VcpuState& vcpu, Gva gva, const Fetch& fault);

}  // namespace mmu

#endif  // MMU_CORE_FETCH_H_
