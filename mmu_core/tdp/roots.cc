#include "mmu_core/tdp/roots.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/tdp/zap.h"

namespace mmu::tdp {
namespace {

RootKey key_of(const VcpuState& vcpu, bool is_private) {
  return {static_cast<u8>(vcpu.regs.smm ? 1 : 0), is_private};
}

Table* find(VmState& vm, RootKey key) {
  for (Table* root = vm.tdp.roots; root; root = root->next)
    if (root->key == key && !root->invalid) return root;
  return nullptr;
}

void prepare(VmState& vm, Table* root, RootKey key) {
  root->key = key;
  root->level = vm.tdp.format.levels;
  root->gfn_bits = key.is_private ? 0 : vm.config.shared_bit >> 12;
  root->refs = 1;  // the VM's own
  root->next = vm.tdp.roots;
  vm.tdp.roots = root;
  count(vm, TdpEvent::kRootMade);
}

void take_from_list(VmState& vm, const Table* root) {
  Table** at = &vm.tdp.roots;
  while (*at && *at != root) at = &(*at)->next;
  if (!*at) vm.platform.panic("a root that is not on the list");
  *at = root->next;
}

// A module has one root: its mirror stays until the VM ends.
enum class Mirrors : u8 { kStay, kGo };
void invalidate_all(VmState& vm, Mirrors mirrors) {
  for (Table* root = vm.tdp.roots; root; root = root->next) {
    if (root->invalid || (mirrors == Mirrors::kStay && is_mirror(vm.config, root->key))) continue;
    root->to_be_emptied = true;
    root->invalid = true;
    count(vm, TdpEvent::kRootInvalid);
  }
  for (u32 i = 0; i < vm.config.vcpus; ++i) vm.vcpu[i].free_obsolete_roots = true;
}

// The VM's own reference to each goes with its translations: to whoever takes the mark away.
void empty_invalid(VmState& vm, Locked& lock) {
  for (Table* root = vm.tdp.roots; root;) {
    if (!root->to_be_emptied) {
      root = root->next;
      continue;
    }
    root->to_be_emptied = false;
    zap_root(vm, lock, *root);
    Removal removal(vm);
    put(vm, root, removal);
    removal.settle();
    root = vm.tdp.roots;  // it may be another list by now
  }
}

bool load(VcpuState& vcpu, bool is_private) {
  Table*& loaded = vcpu.tdp.root_of(is_private);
  if (loaded) return true;
  VmState& vm = *vcpu.vm;
  const RootKey key = key_of(vcpu, is_private);
  const bool low = !vm.tdp.format.ept && vm.tdp.format.levels == 3;
  const TableReach reach = low ? TableReach::kBelow4G : TableReach::kAnywhere;
  // Made before it is known whether it is needed: nothing is allocated under the lock.
  Table* spare = nullptr;
  for (;;) {
    {
      Locked lock(vm, LockId::kMmu);
      Table* root = find(vm, key);
      if (root) count(vm, TdpEvent::kRootShared);
      if (!root && spare) {
        prepare(vm, spare, key);
        root = spare;
        spare = nullptr;
        ++vm.stats.root_misses;
      }
      if (root) {
        get(*root);
        loaded = root;
      }
    }
    if (loaded) break;
    spare = allocate_root(vm.platform, reach);
    if (!spare) return false;
  }
  if (spare) free_now(vm.platform, spare);
  return true;
}

}  // namespace

bool has_private(const VcpuState& vcpu) { return vcpu.vm->config.shared_bit && !vcpu.regs.smm; }

void get(Table& root) { ++root.refs; }

void put(VmState& vm, Table* root, Removal& removal) {
  if (--root->refs) return;
  if (!root->invalid) vm.platform.panic("the last reference to a valid root was given back");
  take_from_list(vm, root);
  count(vm, TdpEvent::kRootGone);
  removal.condemn(root);
}

bool is_stale(const VcpuState& vcpu, bool is_private) {
  const Table* const root = vcpu.tdp.root_of(is_private);
  return !root || root->invalid || root->key != key_of(vcpu, is_private);
}

bool load_all(VcpuState& vcpu) {
  return load(vcpu, false) && (!has_private(vcpu) || load(vcpu, true));
}

void unload(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  if (!vcpu.tdp.root && !vcpu.tdp.private_root) return;
  Locked lock(vm, LockId::kMmu);
  Removal removal(vm);
  for (unsigned kind = 0; kind < 2; ++kind) {
    const bool is_private = kind == 1;
    Table*& root = vcpu.tdp.root_of(is_private);
    if (root) put(vm, root, removal);
    root = nullptr;
  }
  removal.settle();
}

void unload_obsolete(VcpuState& vcpu) {
  if (is_stale(vcpu, false) || (has_private(vcpu) && is_stale(vcpu, true))) unload(vcpu);
}

void zap_all_fast(VmState& vm) {
  Locked lock(vm, LockId::kMmu);
  ++vm.stats.fast_zaps;
  invalidate_all(vm, Mirrors::kStay);
  empty_invalid(vm, lock);
}

void zap_slot(VmState& vm, const Memslot& slot) {
  zap_all_fast(vm);
  if (!vm.config.external_private || slot.space != 0) return;
  Locked lock(vm, LockId::kMmu);
  zap_kind(vm, lock, true, slot.base, slot.base + (slot.pages - 1));
}

void destroy(VmState& vm) {
  {
    Locked lock(vm, LockId::kMmu);
    invalidate_all(vm, Mirrors::kGo);
    empty_invalid(vm, lock);
  }
  if (vm.tdp.roots) vm.platform.panic("a root outlived its vCPUs");
  for (VcpuState& v : vm.vcpu) {
    v.tdp.store.drain(vm.platform);
    pml::release(v);
    dirty_ring::release(v);
  }
}

}  // namespace mmu::tdp
