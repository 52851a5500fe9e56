#ifndef MMU_CORE_TDP_SPLIT_H_
#define MMU_CORE_TDP_SPLIT_H_

// Large leaves and tables of small ones that translate the same (KVM: tdp_mmu_split_huge_page,
// make_small_spte, kvm_tdp_mmu_try_split_huge_pages, recover_huge_pages_range).

#include "mmu_core/state.h"
#include "mmu_core/tdp/table.h"

namespace mmu::tdp {

// Fills an empty table, of level - 1, with what `large`, a leaf of `level`, translates.
void fill_from_large(const VmState& vm, Table& table, u64 large, unsigned level);

// Splits every large leaf that maps a part of [first, last] of the slot, down to 4K, as far as
// there is memory. Allocates, and so gives up the lock in between.
void split_range(VmState& vm, Locked& lock, const Memslot& slot, Gfn first, Gfn last);
// Takes down every table of the slot whose place a large leaf could take: the next fault puts it
// there. Gives up the lock in between, but never with a flush owed.
void collapse(VmState& vm, Locked& lock, const Memslot& slot);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_SPLIT_H_
