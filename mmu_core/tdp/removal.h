#ifndef MMU_CORE_TDP_REMOVAL_H_
#define MMU_CORE_TDP_REMOVAL_H_

// What an operation has taken out of the tables and not yet paid for: the flush that it owes, and
// the tables that may be freed only after that flush and after all readers have left (KVM: the
// `flush` that is handed through the TDP MMU's functions, and call_rcu).

#include "mmu_core/state.h"

namespace mmu::tdp {

class Removal {
 public:
  explicit Removal(VmState& vm) : vm_(vm) {}
  ~Removal() {
    if (owes() || condemned_) vm_.platform.panic("translations were removed and never flushed");
  }
  Removal(const Removal&) = delete;
  Removal& operator=(const Removal&) = delete;

  bool owes() const { return last_ > first_; }
  void owe(Gfn gfn, u64 pages) {
    const u64 end = gfn.raw + pages;
    first_ = owes() && first_ < gfn.raw ? first_ : gfn.raw;
    last_ = last_ > end ? last_ : end;
  }
  // The table is out of the tree and empty.
  void condemn(Table* table) {
    table->next = condemned_;
    condemned_ = table;
  }
  // Flushes, then frees. Before the mmu lock is let go.
  void settle();

 private:
  VmState& vm_;
  u64 first_ = 0, last_ = 0;  // gfns [first, last)
  Table* condemned_ = nullptr;
};

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_REMOVAL_H_
