#ifndef MMU_CORE_TDP_EXTERNAL_H_
#define MMU_CORE_TDP_EXTERNAL_H_

// The tables of private memory as a module has them, kept in step with their mirror
// (VmConfig::external_private; KVM: the mirror and external page tables of TDX).
//
//   mirror     root ─► table ─► table ─► leaf      the core's: read by it, by no hardware
//                │       :        :        :       told while the entry above is frozen
//   external   (its) ─► table ─► table ─► leaf     the module's: walked by the hardware
//
// `change` calls these where it writes entries, nobody else does.

#include "mmu_core/state.h"

namespace mmu::tdp::external {

// The entry, which is frozen, is to become this link or leaf. False: the module is busy.
bool link(VmState& vm, Ref ref, const Table& child);
bool set_leaf(VmState& vm, Ref ref, u64 leaf);
// It is to become empty: what hangs below a link has gone before.
void remove_leaf(VmState& vm, Ref ref, u64 leaf);
void free_table(VmState& vm, const Table& table);

}  // namespace mmu::tdp::external

#endif  // MMU_CORE_TDP_EXTERNAL_H_
