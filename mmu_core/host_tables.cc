#include "mmu_core/host_tables.h"

#include "mmu_core/flush.h"
#include "mmu_core/spte.h"

namespace mmu::host_tables {
namespace {

constexpr u8 kLeastLevels = 3;  // a PAE table

TablePage& table(VcpuState& vcpu, unsigned level) { return vcpu.host_table[level - kLeastLevels]; }
const TablePage& table(const VcpuState& vcpu, unsigned level) {
  return vcpu.host_table[level - kLeastLevels];
}

// Level of the lowest table of the host's above a root, whose own pages begin below it.
unsigned lowest(const VcpuState& vcpu, Root::Kind kind) {
  return kind == Root::Kind::kArray ? kLeastLevels : vcpu.context.mode->levels + 1u;
}

void store(TablePage& t, unsigned index, u64 value) {
  __atomic_store_n(&t.ptr[index], value, __ATOMIC_RELEASE);
}

void clear(TablePage& t) {
  if (!t.ptr) return;
  for (unsigned i = 0; i < Root::kPages; ++i) store(t, i, 0);
  store(t, kEntries - 1, 0);
}

}  // namespace

u8 levels(const VcpuState& vcpu) {
  const PagingMode& mode = *vcpu.context.mode;
  const u8 least = vcpu.vm->config.host_levels;
  const u8 own = mode.legacy() ? kLeastLevels : mode.levels;
  return own > least ? own : least;
}

TableReach reach_of_root(const VmState& vm) {
  return vm.config.host_levels == kLeastLevels ? TableReach::kBelow4G : TableReach::kAnywhere;
}

bool prepare(VcpuState& vcpu, Root::Kind kind) {
  if (kind == Root::Kind::kDummy) return true;
  for (unsigned level = lowest(vcpu, kind); level <= levels(vcpu); ++level) {
    TablePage& t = table(vcpu, level);
    const TableReach reach =
        level == kLeastLevels ? reach_of_root(*vcpu.vm) : TableReach::kAnywhere;
    if (!t.ptr && !vcpu.vm->platform.alloc_table(reach, t.hpa, t.ptr)) return false;
  }
  return true;
}

u64 array_entry(const VcpuState& vcpu, const ShadowPage& page) {
  // SDM 3A "PDPTE Registers": bits 2:1 and 8:5 of a PAE PDPTE are reserved.
  return levels(vcpu) == kLeastLevels ? page.hpa.raw | pte::kP : spte::make_nonleaf(page.hpa);
}

void connect(VcpuState& vcpu) {
  for (TablePage& t : vcpu.host_table) clear(t);
  const Root& r = vcpu.root;
  if (r.kind == Root::Kind::kNone || r.kind == Root::Kind::kDummy) return;
  unsigned level = lowest(vcpu, r.kind);
  const unsigned top = levels(vcpu);
  if (level > top) return;
  if (r.kind == Root::Kind::kArray) {
    for (unsigned i = 0; i < Root::kPages; ++i)
      if (r.page[i]) store(table(vcpu, level), i, array_entry(vcpu, *r.page[i]));
  } else {
    // Linear addresses of 48 bits, sign-extended: bits 56:48 are all 0 or all 1.
    const u64 entry = spte::make_nonleaf(r.page[0]->hpa);
    store(table(vcpu, level), 0, entry);
    store(table(vcpu, level), kEntries - 1, entry);
  }
  for (; level < top; ++level)
    store(table(vcpu, level + 1), 0, spte::make_nonleaf(table(vcpu, level).hpa));
}

Hpa root(const VcpuState& vcpu) {
  const Root& r = vcpu.root;
  if (r.kind == Root::Kind::kDummy) return vcpu.vm->dummy.hpa;
  const unsigned top = levels(vcpu);
  return lowest(vcpu, r.kind) > top ? r.page[0]->hpa : table(vcpu, top).hpa;
}

void free(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  bool flushed = false;
  for (TablePage& t : vcpu.host_table) {
    if (!t.ptr) continue;
    if (!flushed) flush::all(vm);  // the hardware may have cached entries that lead here
    flushed = true;
    vm.platform.free_table(t.hpa);
    t = TablePage{};
  }
}

}  // namespace mmu::host_tables
