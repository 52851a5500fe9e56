#ifndef MMU_CORE_TDP_STATE_H_
#define MMU_CORE_TDP_STATE_H_

// What a VM and its vCPUs hold for two-dimensional paging; parts of VmState and VcpuState.

#include "mmu_core/concurrent.h"
#include "mmu_core/memory_cache.h"
#include "mmu_core/tdp/format.h"
#include "mmu_core/tdp/private_ranges.h"
#include "mmu_core/tdp/table.h"
#include "mmu_core/tdp/table_store.h"

namespace mmu {

struct DirtyRing;

struct TdpVm {
  bool on = false;  // VmConfig::translation is not kShadow
  tdp::Format format;
  tdp::Table* roots = nullptr;  // valid and invalid ones, newest first
  u64 tables = 0;               // below the roots
  u64 external_leaves = 0;      // in the module's tables
  tdp::PrivateRanges private_ranges;
  // Of the memslots when the identity map was last written; by address space.
  Concurrent<u64> identity_map_generation[kAddressSpaces] = {~u64{0}, ~u64{0}};
};

// Is what belongs to this key a mirror of a module's tables?
inline bool is_mirror(const VmConfig& config, tdp::RootKey key) {
  return config.external_private && key.is_private;
}

struct TdpVcpu {
  tdp::Table* root = nullptr;
  tdp::Table* private_root = nullptr;  // of VmConfig::shared_bit, outside SMM
  tdp::Table*& root_of(bool is_private) { return is_private ? private_root : root; }
  tdp::Table* root_of(bool is_private) const { return is_private ? private_root : root; }
  tdp::TableStore store;
  DirtyRing* ring = nullptr;      // Options::dirty_ring
  TablePage pml;                  // ptr null until first needed (pml.h)
  Concurrent<u32> pml_space = 0;  // whose gpas its entries are
};

}  // namespace mmu

#endif  // MMU_CORE_TDP_STATE_H_
