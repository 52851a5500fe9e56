#include "mmu_core/tdp/split.h"

namespace mmu::tdp {
namespace {

// Part `i` of it. Where only large pages may not be executed, parts of 4K may.
u64 part_of(const VmState& vm, u64 large, unsigned level, unsigned i) {
  const Format& f = vm.tdp.format;
  u64 e = large + (pages_of_level(level - 1) * i << 12);
  if (level > 2) return e;
  e &= ~kLarge;
  if (vm.config.options.nx_huge_pages && in_hardware(f, e)) e = (e | f.exec) & ~f.no_exec;
  return e;
}

}  // namespace

void fill_from_large(const VmState& vm, Table& table, u64 large, unsigned level) {
  for (unsigned i = 0; i < kEntries; ++i) table.entry[i] = part_of(vm, large, level, i);
}

}  // namespace mmu::tdp
