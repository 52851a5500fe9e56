#ifndef MMU_CORE_TDP_ITERATOR_H_
#define MMU_CORE_TDP_ITERATOR_H_

// A walk over the entries of one root that translate a range of gfns, in order, upper entries
// before what hangs below them (KVM: tdp_iter).
//
//   root   [ 0 ]─────────────────[ 1 ] ...      1  the entry of the root
//            │ down                ▲            2  down, if it is a link: the first entry of the
//            ▼                     │ side          child that translates something of the range
//   child  [ 0 ][ 1 ] ... [ 511 ]──┘ up         3  side: the next entry of the same table
//            ──►  side                          4  up, at a table's end, and side from there
//
// A walk that gave up the lock goes on from the root, because any table may have gone meanwhile; it
// comes to the entry that it had not finished once more and skips nothing.

#include "mmu_core/tdp/table.h"

namespace mmu::tdp {

class Iterator {
 public:
  // Entries of `least_level` and above that translate some of [first, last], gfns as memslots have
  // them.
  Iterator(Table& root, Gfn first, Gfn last, unsigned least_level = 1);

  bool valid() const { return valid_; }
  void next();
  // Where it stands is empty: on to the last entry of the table to which `most` calls of next() or
  // fewer would lead over nothing but empty ones. How many it took. Precondition: nobody else
  // changes the tables.
  unsigned pass_empty(unsigned most);

  // Where it is, and what the entry held when the walk came to it.
  Ref ref() const { return ref_; }
  u64 entry() const { return entry_; }
  unsigned level() const { return ref_.level(); }
  Gfn gfn() const { return Gfn{ref_.gfn().raw & ~root_.gfn_bits}; }
  // The entry was changed meanwhile, or a change of it failed: what it holds now decides where the
  // walk goes on.
  void reread() { entry_ = ref_.load(); }

  // The lock was given up, or will be before next() is called.
  void note_yield() { yielded_ = true; }
  // The walk has come further since the last yield, so that it may yield again and still ends.
  bool has_advanced() const { return reached_ != yielded_at_; }

 private:
  void restart();
  void stand_at(Table& table, unsigned index);
  bool step_down();
  bool step_side();
  bool step_up();

  Table& root_;
  const Gfn last_;
  const unsigned least_level_;
  Gfn reached_;  // the first gfn that the walk has not finished
  Gfn yielded_at_;
  Ref ref_;
  u64 entry_ = 0;
  bool yielded_ = false;
  bool valid_ = false;
};

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_ITERATOR_H_
