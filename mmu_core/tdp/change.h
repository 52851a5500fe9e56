#ifndef MMU_CORE_TDP_CHANGE_H_
#define MMU_CORE_TDP_CHANGE_H_

// The only writers of entries (KVM: tdp_mmu_set_spte*, handle_changed_spte). The hardware sets A
// and D while they work, and a lock-free fault W: nothing is stored over a value that was not seen.

#include "mmu_core/tdp/removal.h"
#include "mmu_core/tdp/table.h"

namespace mmu::tdp {

// An entry of a mirror is frozen while the module is told (external.h): it goes from empty to a
// link or a leaf, and back, and nothing else.

// Replaces `was` by `now`, which is no link. False: it holds something else, or the module is busy,
// and nothing was done. Enough under the shared mmu lock. Precondition: `was` is not frozen.
bool try_change(VmState& vm, Ref ref, u64 was, u64 now, Removal& removal);
// Empties it, whatever it holds. Precondition: mmu lock held for itself alone.
void remove(VmState& vm, Ref ref, Removal& removal);
// Takes away bits that an entry may lose one by one. Says what it held. Precondition: as above.
u64 clear_bits(VmState& vm, Ref ref, u64 bits, Removal& removal);

// Hangs a table where `was` is: nothing, an MMIO entry, or a large leaf whose translations, all of
// them, the child has already, for which no flush is owed. False: it holds something else, or the
// module is busy. Enough under the shared mmu lock.
bool try_link(VmState& vm, Ref ref, u64 was, Table* child);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_CHANGE_H_
