#include "mmu_core/tdp/split.h"

#include "mmu_core/tdp/breather.h"
#include "mmu_core/tdp/change.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/large.h"
#include "mmu_core/tdp/nx_huge_pages.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

// Part `i` of it. Where only large pages may not be executed, parts of 4K may.
u64 part_of(const VmState& vm, u64 large, unsigned level, unsigned i) {
  const Format& f = vm.tdp.format;
  u64 e = large + (pages_of_level(level - 1) * i << 12);
  if (level > 2) return e;
  e &= ~kLarge;
  return nx_huge_pages(vm) ? executable(f, e) : e;
}

// One table in stock: it is allocated without the lock.
class Spare {
 public:
  explicit Spare(VmState& vm) : platform_(vm.platform) {}
  ~Spare() {
    if (table_) free_now(platform_, table_);
  }
  Spare(const Spare&) = delete;
  Spare& operator=(const Spare&) = delete;

  bool fits(unsigned level) const { return table_ && table_->level == level; }
  // False: no memory.
  bool renew(unsigned level) {
    if (table_) free_now(platform_, table_);
    table_ = allocate_empty(platform_, level);
    return table_ != nullptr;
  }
  Table* get() { return table_; }
  void hand_over() { table_ = nullptr; }

 private:
  Platform& platform_;
  Table* table_ = nullptr;
};

// Splits the leaf that the walk stands at. The walk then goes down into the parts.
void split_one(VmState& vm, Iterator& it, Spare& spare) {
  fill_from_large(vm, *spare.get(), it.entry(), it.level());
  // It may have changed since it was read: its parts would be what it is no more.
  if (try_link(vm, it.ref(), it.entry(), spare.get())) spare.hand_over();
  it.reread();
}

}  // namespace

void fill_from_large(const VmState& vm, Table& table, u64 large, unsigned level) {
  for (unsigned i = 0; i < kEntries; ++i) table.entry[i] = part_of(vm, large, level, i);
}

void split_range(VmState& vm, Locked& lock, const Memslot& slot, Gfn first, Gfn last) {
  Spare spare(vm);
  bool memory = true;
  for_each_root(vm, slot.space, Which::kValid, [&](Table& root) {
    Removal removal(vm);
    Breather breather(vm, lock);
    for (Iterator it(root, first, last, 2); memory && it.valid(); it.next()) {
      if (breather.breathe(it, removal)) continue;
      while (memory && is_leaf(it.entry(), it.level())) {
        if (spare.fits(it.level() - 1)) {
          split_one(vm, it, spare);
          continue;
        }
        lock.pause(YieldPoint::kMidWalk, [&] { memory = spare.renew(it.level() - 1); });
        it.note_yield();
        break;
      }
    }
    removal.settle();
  });
}

void collapse(VmState& vm, Locked& lock, const Memslot& slot) {
  const Gfn last = slot.base + (slot.pages - 1);
  for_each_root(vm, slot.space, Which::kValid, [&](Table& root) {
    if (is_mirror(vm.config, root.key)) return;  // all of it is small
    Removal removal(vm);
    Breather breather(vm, lock);
    for (Iterator it(root, slot.base, last, 2); it.valid(); it.next()) {
      if (breather.breathe(it, removal)) continue;
      const Ref ref = it.ref();
      if (!is_table(it.entry(), it.level()) || it.level() > kRmapLevels) continue;
      if (ref.child()->for_execution) continue;  // recover_nx_huge_pages() has these
      if (!may_be_large(vm, slot, it.gfn(), it.level())) continue;
      remove(vm, ref, removal);
      count(vm, TdpEvent::kCollapse, it.level());
    }
    removal.settle();
  });
}

}  // namespace mmu::tdp
