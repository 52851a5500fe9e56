#ifndef MMU_CORE_TDP_READERS_H_
#define MMU_CORE_TDP_READERS_H_

// A section in which tables are read that others may take down meanwhile: what it can reach is not
// freed before it ends (KVM: rcu_read_lock in tdp_iter's users, walk_shadow_page_lockless_begin).

#include "mmu_core/state.h"

namespace mmu::tdp {

class Readers {
 public:
  explicit Readers(VmState& vm) : platform_(vm.platform) { platform_.begin_reading(); }
  ~Readers() { platform_.end_reading(); }
  Readers(const Readers&) = delete;
  Readers& operator=(const Readers&) = delete;

 private:
  Platform& platform_;
};

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_READERS_H_
