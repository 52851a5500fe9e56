#ifndef MMU_CORE_TDP_SPLIT_H_
#define MMU_CORE_TDP_SPLIT_H_

// A large leaf becomes a table of smaller ones that translate the same (KVM:
// tdp_mmu_split_huge_page, make_small_spte).

#include "mmu_core/state.h"
#include "mmu_core/tdp/table.h"

namespace mmu::tdp {

// Fills an empty table, of level - 1, with what `large`, a leaf of `level`, translates.
void fill_from_large(const VmState& vm, Table& table, u64 large, unsigned level);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_SPLIT_H_
