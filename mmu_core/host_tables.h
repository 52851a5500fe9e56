#ifndef MMU_CORE_HOST_TABLES_H_
#define MMU_CORE_HOST_TABLES_H_

// What lies between the hardware's CR3 and the pages of vcpu.root, where these are not the same:
// tables of the host's own, one set a vCPU, that shadow nothing.
//
//   level 5   [0] (and [511], for a tree) ──┐      if the hardware walks 5 levels
//   level 4   [0] ──┐   <───────────────────┘      if it walks 4 or more and the root is an array
//   level 3   [0..3] ──► root.page[0..3]           if the root is an array
//
// With 3 levels the hardware is in legacy mode: level 3 is its PDPTE array, whose entries have no
// rights. KVM: pae_root, pml4_root, pml5_root, mmu_alloc_special_roots.

#include "mmu_core/state.h"

namespace mmu::host_tables {

// Levels of the table that the hardware walks: 3 to 5.
u8 levels(const VcpuState& vcpu);
// Where what the hardware's CR3 names must lie: with 3 levels it is in legacy mode.
TableReach reach_of_root(const VmState& vm);
// Allocates what the root needs. False: no memory.
bool prepare(VcpuState& vcpu, Root::Kind kind);
// Makes the tables lead to vcpu.root. Precondition: prepare() for its kind, if it is valid. The
// caller flushes unless the vCPU's hardware cannot have walked the old ones.
void connect(VcpuState& vcpu);
// Where the hardware's walk begins. Precondition: vcpu.root is valid.
Hpa root(const VcpuState& vcpu);
void free(VcpuState& vcpu);

// The entry that leads to a page of an array.
u64 array_entry(const VcpuState& vcpu, const ShadowPage& page);

}  // namespace mmu::host_tables

#endif  // MMU_CORE_HOST_TABLES_H_
