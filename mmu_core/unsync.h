#ifndef MMU_CORE_UNSYNC_H_
#define MMU_CORE_UNSYNC_H_

// Level-1 indirect pages may be left writable to the guest: "unsync". Their
// ancestors count the children through which an unsync page can be reached.

#include "mmu_core/state.h"

namespace mmu::unsync {

// May the guest get a writable mapping of `gfn`, which lies in this slot? Makes the level-1 tables
// that shadow it unsync where that is allowed (KVM: mmu_try_to_unsync_pages).
//   kSynchronizing: called while syncing; no shadowed table may be writable, unsync or not.
//   kPrefetch: speculative; only tables that are unsync already do not forbid it.
enum class Caller : u8 { kFault, kSynchronizing, kPrefetch };
bool try_to_make_writable(VmState& vm, const Memslot& slot, Gfn gfn, Caller caller);

// The child behind `ref` is or has unsync pages: counts that in the parent and, if it is news,
// above it.
void mark_parent(SpteRef ref);
void clear_child(ShadowPage& parent, unsigned index);
// The page is in step with its guest table again. Bits in ancestors are cleared lazily.
void clear(VmState& vm, ShadowPage& page);

}  // namespace mmu::unsync

#endif  // MMU_CORE_UNSYNC_H_
