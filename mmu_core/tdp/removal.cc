#include "mmu_core/tdp/removal.h"

#include "mmu_core/flush.h"

namespace mmu::tdp {

void Removal::settle() {
  if (owes()) {
    const Gfn first{first_};
    const u64 pages = last_ - first_;
    first_ = last_ = 0;
    flush::range(vm_, first, pages);
  }
  while (Table* const table = condemned_) {
    condemned_ = table->next;
    free_after_readers(vm_.platform, table);
  }
}

}  // namespace mmu::tdp
