#ifndef MMU_CORE_MEMORY_CACHE_H_
#define MMU_CORE_MEMORY_CACHE_H_

// Stores of a vCPU, filled before an operation, so that nothing is allocated in the
// middle of one (KVM: struct kvm_mmu_memory_cache).

#include "mmu_core/memslot.h"
#include "mmu_core/paging_mode.h"
#include "mmu_core/platform.h"
#include "mmu_core/rmap.h"
#include "mmu_core/shadow_page.h"

namespace mmu {

struct TablePage {
  Hpa hpa;
  u64* ptr = nullptr;
};

class MemoryCaches {
 public:
  // What one fault may need at most: a shadow page a level below the root, a chain descriptor for
  // the leaf, each prefetched neighbour and each new link; of a memslot, a chunk for each new
  // table, the leaf and each neighbour.
  static constexpr u32 kPages = kMaxLevels - 1, kChains = 16, kChunks = 12;

  explicit MemoryCaches(Platform& platform) : platform_(platform) {}
  bool top_up();  // false: the source is exhausted; what was got stays for the next try
  void drain();   // gives everything back

  // Precondition: top_up() succeeded since this operation began. An empty store is a broken
  // invariant.
  ShadowPage* take_page();  // descriptor with table and info attached
  RmapChain* take_chain();
  // The part of the slot that holds the gfn, made if it is not there yet.
  SlotChunk& chunk_of(const Memslot& slot, Gfn gfn);

 private:
  Platform& platform_;
  u32 tables_ = 0, descriptors_ = 0, infos_ = 0, chains_ = 0, chunks_ = 0;
  TablePage table_[kPages];
  ShadowPage* descriptor_[kPages];
  EntryInfo* info_[kPages];
  RmapChain* chain_[kChains];
  SlotChunk* chunk_[kChunks];
};

void free_page(Platform& platform, ShadowPage* page);

}  // namespace mmu

#endif  // MMU_CORE_MEMORY_CACHE_H_
