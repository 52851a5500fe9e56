#include "mmu_core/dirty_log.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/flush.h"
#include "mmu_core/tdp/dirty.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/tdp/removal.h"
#include "mmu_core/tdp/split.h"
#include "mmu_core/zap.h"

namespace mmu::dirty_log {
namespace {

Memslot* logged_slot(VmState& vm, u32 space, u32 id) {
  Memslot* slot = space < kAddressSpaces ? vm.spaces[space].slots.by_id(id) : nullptr;
  return slot && slot->log_dirty ? slot : nullptr;
}

// The next write to each page that the word names, bit 0 standing for `first`, is noticed.
void protect(VmState& vm, Memslot& slot, Gfn first, u64 word, tdp::Removal& removal) {
  if (vm.tdp.on) {
    if (word) tdp::protect(vm, slot, first, word, removal);
    return;
  }
  for (u64 left = word; left; left &= left - 1) {
    if (entries::write_protect_gfn(vm, slot, first + static_cast<u64>(__builtin_ctzll(left))))
      count(vm, Event::kDirtyProtect, 0, PageRole{});
  }
}

// The 64 bits from `at` on of a bitmap of `bits` bits; beyond its ends there is nothing.
u64 word_at(const u64* bitmap, u64 bits, u64 at, u64 first) {
  u64 word = 0;
  for (u64 i = 0; i < 64; ++i) {
    const u64 n = at + i - first;
    if (at + i >= first && n < bits && (bitmap[n / 64] >> (n % 64) & 1)) word |= u64{1} << i;
  }
  return word;
}

}  // namespace

bool collect(VmState& vm, u32 space, u32 id, u64* bitmap, u64 words) {
  Locked slots(vm, LockId::kSlots);
  Memslot* const slot = logged_slot(vm, space, id);
  if (!slot || words != (slot->pages + 63) / 64) return false;
  Locked lock(vm, LockId::kMmu);
  pml::flush_all(vm);
  tdp::Removal removal(vm);
  for (u64 w = 0; w < words; ++w) {
    u64& log = slot->arrays.dirty[w];
    if (vm.config.options.manual_clear) {
      bitmap[w] = __atomic_load_n(&log, __ATOMIC_ACQUIRE);
      continue;
    }
    bitmap[w] = __atomic_exchange_n(&log, u64{0}, __ATOMIC_ACQ_REL);
    protect(vm, *slot, slot->base + w * 64, bitmap[w], removal);
  }
  // Before the caller acts on the bitmap: a write through a stale entry would be lost.
  flush::pay(vm);
  removal.settle();
  return true;
}

bool clear(VmState& vm, u32 space, u32 id, u64 first, u64 pages, const u64* bitmap) {
  Locked slots(vm, LockId::kSlots);
  Memslot* const slot = logged_slot(vm, space, id);
  if (!slot || !vm.config.options.manual_clear) return false;
  if (first >= slot->pages || pages == 0 || pages > slot->pages - first) return false;
  Locked lock(vm, LockId::kMmu);
  pml::flush_all(vm);
  // With nothing protected at first, large pages are writable until now.
  if (vm.tdp.on && vm.config.options.eager_split && vm.config.options.initially_set)
    tdp::split_range(vm, lock, *slot, slot->base + first, slot->base + (first + pages - 1));
  tdp::Removal removal(vm);
  for (u64 w = first / 64; w <= (first + pages - 1) / 64; ++w) {
    const u64 wanted = word_at(bitmap, pages, w * 64, first);
    const u64 was = __atomic_fetch_and(&slot->arrays.dirty[w], ~wanted, __ATOMIC_ACQ_REL);
    protect(vm, *slot, slot->base + w * 64, was & wanted, removal);
  }
  flush::pay(vm);
  removal.settle();
  return true;
}

void begin(VmState& vm, Locked& lock, Memslot& slot) {
  // Who entered before there was a log for the hardware sets D and notes nothing; none may be left
  // when D is cleared (KVM: kvm_mmu_update_cpu_dirty_logging).
  if (pml::in_use(vm)) vm.platform.call_out_of_guest();
  if (vm.config.options.initially_set) {
    for (u64 i = 0; i < slot.pages; ++i) GuestMemory::mark_dirty(slot, slot.base + i);
    if (vm.tdp.on) return;  // whatever is taken out of the log is protected then
  }
  if (vm.tdp.on) return tdp::begin_logging(vm, lock, slot);
  slot.for_each_rmap(slot.base, slot.base + (slot.pages - 1),
                     [&](const RmapHead& head) { entries::write_protect_chain(vm, head); });
  flush::pay(vm);
}

}  // namespace mmu::dirty_log
