#ifndef MMU_CORE_TDP_TABLE_STORE_H_
#define MMU_CORE_TDP_TABLE_STORE_H_

// Tables in stock, so that nothing is allocated under the mmu lock (KVM: kvm_mmu_memory_cache).

#include "mmu_core/paging_mode.h"
#include "mmu_core/platform.h"
#include "mmu_core/tdp/table.h"

namespace mmu::tdp {

class TableStore {
 public:
  // What one fault needs at most: a table for each level below the root, of which the lowest links
  // nothing.
  static constexpr u32 kTables = kMaxLevels - 1, kLinks = kTables - 1;

  // False: the source is exhausted; what was got stays for the next try. `external`: also tables
  // for the module whose tables are mirrored.
  bool top_up(Platform& platform, bool external);
  void drain(Platform& platform);

  // Empty, with links if level > 1. Precondition: top_up() succeeded since this operation began,
  // for a mirror with `external`.
  Table* take(Platform& platform, unsigned level, bool mirror);
  // One that nobody else has seen.
  void give_back(Platform& platform, Table* table);

 private:
  Table* table_[kTables] = {};
  Links* link_[kLinks] = {};
  Hpa external_[kTables];
  u32 tables_ = 0, links_ = 0, externals_ = 0;
};

// A root's, not from a store: null if the source is exhausted.
Table* allocate_root(Platform& platform, TableReach reach);
// One of `level` for a link, neither.
Table* allocate_empty(Platform& platform, unsigned level);
// At once, or when nobody can be reading it any more.
void free_now(Platform& platform, Table* table);
void free_after_readers(Platform& platform, Table* table);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_TABLE_STORE_H_
