#ifndef MMU_CORE_TDP_MAP_H_
#define MMU_CORE_TDP_MAP_H_

// Builds the path to a gfn and installs its leaf (KVM: kvm_tdp_mmu_map).

#include "mmu_core/notifier.h"
#include "mmu_core/state.h"
#include "mmu_core/tdp/table.h"

namespace mmu::tdp {

struct Fault {
  Gfn gfn;
  bool write = false, fetch = false;
  bool is_private = false;
  Memslot* slot = nullptr;  // null: MMIO
  u64 slot_generation = 0;  // of the table in which `slot` was looked up
  FrameLookup frame;
  notifier::Snapshot seen;
};

enum class MapResult : u8 {
  kInstalled,
  kSpurious,        // it was there
  kWriteProtected,  // there, but the write must be emulated
  kMmio,
  kRetry,  // another vCPU was quicker
};

// Precondition: mmu lock held at least shared, inside a section of readers, the vCPU's store topped
// up, its root neither invalid nor of another key.
MapResult map(VcpuState& vcpu, const Fault& fault);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_MAP_H_
