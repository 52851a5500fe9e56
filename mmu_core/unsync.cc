#include "mmu_core/unsync.h"

#include "mmu_core/counters.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/rmap.h"
#include "mmu_core/tracking.h"

namespace mmu::unsync {
namespace {

void mark_parents_of(ShadowPage& page) {
  chain::for_each(page.parents, [](SpteRef ref) {
    mark_parent(ref);
    return true;
  });
}

void make_unsync(VmState& vm, ShadowPage& page) {
  ++vm.stats.unsyncs;
  count(vm, Event::kUnsync, page);
  page.unsync = true;
  mark_parents_of(page);
}

}  // namespace

void mark_parent(SpteRef ref) {
  ShadowPage& parent = *ref.page;
  u64& word = parent.unsync_bitmap[ref.index / 64];
  const u64 mask = bit(ref.index % 64);
  if (word & mask) return;
  word |= mask;
  if (parent.unsync_children++) return;
  mark_parents_of(parent);
}

void clear_child(ShadowPage& parent, unsigned index) {
  u64& word = parent.unsync_bitmap[index / 64];
  const u64 mask = bit(index % 64);
  if (!(word & mask)) return;
  word &= ~mask;
  --parent.unsync_children;
}

void clear(VmState& vm, ShadowPage& page) {
  if (!page.unsync) vm.platform.panic("page is not unsync");
  page.unsync = false;
}

bool try_to_make_writable(VmState& vm, const Memslot& slot, Gfn gfn, Caller caller) {
  if (tracking::is_tracked(slot, gfn)) return false;
  bool allowed = true;
  pages::for_each_indirect(vm, slot.space, gfn, [&](ShadowPage& page) {
    // While a batch of tables is being synced, one that is still unsync may be next: it must stay
    // protected.
    const bool may_stay = page.unsync && caller != Caller::kSynchronizing;
    if (may_stay) return true;
    if (caller != Caller::kFault || !vm.config.options.unsync) {
      allowed = false;
      return false;
    }
    if (page.role.level() != 1) vm.platform.panic("upper table not tracked");
    make_unsync(vm, page);
    return true;
  });
  return allowed;
}

}  // namespace mmu::unsync
