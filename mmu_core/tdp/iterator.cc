#include "mmu_core/tdp/iterator.h"

#include "mmu_core/tdp/format.h"

namespace mmu::tdp {

Iterator::Iterator(Table& root, Gfn first, Gfn last, unsigned least_level)
    : root_(root),
      last_(last.raw | root.gfn_bits),
      least_level_(least_level),
      reached_(first.raw | root.gfn_bits),
      yielded_at_{~u64{0}} {
  restart();
}

void Iterator::stand_at(Table& table, unsigned index) {
  ref_ = {&table, index};
  entry_ = ref_.load();
  valid_ = ref_.gfn() <= last_;
}

void Iterator::restart() {
  yielded_ = false;
  yielded_at_ = reached_;
  stand_at(root_, index_at(reached_, root_.level));
}

void Iterator::next() {
  if (yielded_) return restart();
  if (step_down() || step_side()) return;
  while (step_up())
    if (step_side()) return;
  valid_ = false;
}

unsigned Iterator::pass_empty(unsigned most) {
  const unsigned from = ref_.index + 1;
  const u64 in_range = (last_ - ref_.table->base) / ref_.pages() + 1;
  unsigned end = in_range < kEntries ? static_cast<unsigned>(in_range) : kEntries;
  if (end - from > most) end = from + most;
  const unsigned passed = first_filled(*ref_.table, from, end) - from;
  if (!passed) return 0;
  ref_.index += passed;
  reached_ = ref_.gfn();
  return passed;
}

bool Iterator::step_down() {
  if (ref_.level() == least_level_) return false;
  entry_ = ref_.load();
  if (!is_table(entry_, ref_.level())) return false;
  Table& child = *ref_.child();
  stand_at(child, reached_ <= child.base ? 0 : index_at(reached_, child.level));
  return true;
}

bool Iterator::step_side() {
  if (ref_.index == kEntries - 1) return false;
  reached_ = ref_.gfn() + ref_.pages();
  stand_at(*ref_.table, ref_.index + 1);
  return true;
}

bool Iterator::step_up() {
  if (ref_.table == &root_) return false;
  ref_ = {ref_.table->parent, ref_.table->parent_index};
  return true;
}

}  // namespace mmu::tdp
