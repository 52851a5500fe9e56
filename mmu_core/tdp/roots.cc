#include "mmu_core/tdp/roots.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/tdp/zap.h"

namespace mmu::tdp {
namespace {

Table* find(VmState& vm, RootKey key) {
  for (Table* root = vm.tdp.roots; root; root = root->next)
    if (root->key == key && !root->invalid) return root;
  return nullptr;
}

void prepare(VmState& vm, Table* root, RootKey key) {
  root->key = key;
  root->level = vm.tdp.format.levels;
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

void invalidate_all(VmState& vm) {
  for (Table* root = vm.tdp.roots; root; root = root->next) {
    if (root->invalid) continue;
    root->invalid = root->to_be_emptied = true;
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

}  // namespace

RootKey root_key(const VcpuState& vcpu) { return {static_cast<u8>(vcpu.regs.smm ? 1 : 0), false}; }

void get(Table& root) { ++root.refs; }

void put(VmState& vm, Table* root, Removal& removal) {
  if (--root->refs) return;
  if (!root->invalid) vm.platform.panic("the last reference to a valid root was given back");
  take_from_list(vm, root);
  count(vm, TdpEvent::kRootGone);
  removal.condemn(root);
}

bool is_stale(const VcpuState& vcpu) {
  const Table* const root = vcpu.tdp.root;
  return !root || root->invalid || root->key != root_key(vcpu);
}

bool load_all(VcpuState& vcpu) {
  if (vcpu.tdp.root) return true;
  VmState& vm = *vcpu.vm;
  const RootKey key = root_key(vcpu);
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
        vcpu.tdp.root = root;
      }
    }
    if (vcpu.tdp.root) break;
    spare = allocate_root(vm.platform, reach);
    if (!spare) return false;
  }
  if (spare) free_now(vm.platform, spare);
  return true;
}

void unload(VcpuState& vcpu) {
  if (!vcpu.tdp.root) return;
  VmState& vm = *vcpu.vm;
  Locked lock(vm, LockId::kMmu);
  Removal removal(vm);
  put(vm, vcpu.tdp.root, removal);
  vcpu.tdp.root = nullptr;
  removal.settle();
}

void unload_obsolete(VcpuState& vcpu) {
  if (is_stale(vcpu)) unload(vcpu);
}

void zap_all_fast(VmState& vm) {
  Locked lock(vm, LockId::kMmu);
  ++vm.stats.fast_zaps;
  invalidate_all(vm);
  empty_invalid(vm, lock);
}

void destroy(VmState& vm) {
  zap_all_fast(vm);
  if (vm.tdp.roots) vm.platform.panic("a root outlived its vCPUs");
  for (VcpuState& v : vm.vcpu) {
    v.tdp.store.drain(vm.platform);
    pml::release(v);
  }
}

}  // namespace mmu::tdp
