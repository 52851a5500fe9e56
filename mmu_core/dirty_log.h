#ifndef MMU_CORE_DIRTY_LOG_H_
#define MMU_CORE_DIRTY_LOG_H_

// Dirty logging by write protection (KVM: kvm_get_dirty_log_protect,
// kvm_mmu_slot_remove_write_access).

#include "mmu_core/state.h"

namespace mmu::dirty_log {

// Hands the bitmap over and, unless Options::manual_clear, takes its pages out of the log and
// protects them again. False: no such slot, not logging, or wrong size.
bool collect(VmState& vm, u32 space, u32 slot, u64* bitmap, u64 words);
// Vm::clear_dirty_log.
bool clear(VmState& vm, u32 space, u32 slot, u64 first, u64 pages, const u64* bitmap);
// Logging begins: nothing in the slot may be written unnoticed. The mmu lock may be given up in
// between.
void begin(VmState& vm, Locked& mmu_lock, Memslot& slot);

}  // namespace mmu::dirty_log

#endif  // MMU_CORE_DIRTY_LOG_H_
