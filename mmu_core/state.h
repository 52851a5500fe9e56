#ifndef MMU_CORE_STATE_H_
#define MMU_CORE_STATE_H_

// Everything that a VM and its vCPUs hold. The mechanisms are free functions
// over these two, one file each; this is the only place that knows them all.

#include "mmu_core/address_space.h"
#include "mmu_core/async_state.h"
#include "mmu_core/concurrent.h"
#include "mmu_core/cpu.h"
#include "mmu_core/memory_cache.h"
#include "mmu_core/mmu.h"
#include "mmu_core/page_hash.h"
#include "mmu_core/shadow_page.h"
#include "mmu_core/tdp/state.h"

namespace mmu {

// A root that a vCPU may be entered with.
//
//   kTree    a guest in IA-32e mode: page[0] shadows the table that CR3 names
//   kArray   any other guest: page[i] translates the i-th GiB of its 32-bit linear addresses. PAE:
//            it shadows the directory that PDPTE i names, null if there is none in memory; 32-bit:
//            it is quadrant i of the page directory; no paging: a direct page.
//   kDummy   CR3 lies outside memory: a table of nothing but zeros, in any format
//
// Each page counts each root that holds it (ShadowPage::root_count), one that is there twice twice.
struct Root {
  enum class Kind : u8 { kNone, kTree, kArray, kDummy };
  static constexpr unsigned kPages = 4;
  Kind kind = Kind::kNone;
  bool hole = false;  // kArray: a present PDPTE names no memory
  u64 cr3 = 0;  // guest CR3 without bit 63, PCID included: the key of the cache of previous roots
  ShadowPage* page[kPages] = {};

  bool valid() const { return kind != Kind::kNone; }
  // That of gva's translations, or null.
  ShadowPage* page_for(Gva gva) const { return page[kind == Kind::kArray ? gva.raw >> 30 & 3 : 0]; }
  template <class F>
  void for_each_page(F&& f) const {
    for (ShadowPage* p : page)
      if (p) f(*p);
  }
  // Is it a tree for this role? Dummies and arrays have none of their own.
  bool has_role(PageRole role) const { return kind == Kind::kTree && page[0]->role == role; }
};
inline constexpr u32 kPreviousRoots = 3;

// The last MMIO access, so that its next fault needs no walk of the shadow (KVM:
// vcpu->arch.mmio_gva and friends).
struct MmioCache {
  bool valid = false;
  Gva page;
  Gfn gfn;
  u8 access = 0;
  u64 generation = 0;
  u64 shape = 0;  // VmState::shape when it was filled
};

struct VmState;

struct VcpuState {
  explicit VcpuState(Platform& platform) : caches(platform) {}
  VmState* vm = nullptr;
  u32 id = 0;
  CpuRegisters regs;
  WalkContext context;
  PageRole role;  // of the root: base role with level and rights filled in
  Root root;
  Root previous[kPreviousRoots];  // most recent first; trees and dummies of IA-32e mode only
  TablePage host_table[3];        // of levels 3, 4, 5 above `root` (host_tables.h); ptr null: none
  // Before the next entry: roots that are obsolete go (KVM: KVM_REQ_MMU_FREE_OBSOLETE_ROOTS).
  Concurrent<bool> free_obsolete_roots = false;
  MmioCache mmio;
  MemoryCaches caches;  // its faults alone take from them
  AsyncFaults async;
  TdpVcpu tdp;
};

// The shadow pages in use, by gfn and as a list (KVM: mmu_page_hash, active_mmu_pages).
struct PageCache {
  explicit PageCache(Platform& platform) : hash(platform) {}
  PageHash hash;
  ShadowPage* newest = nullptr;
  ShadowPage* oldest = nullptr;
  u32 used = 0;           // on the active list
  u32 invalid_roots = 0;  // off it, kept alive by root_count
  u32 indirect = 0;       // of `used`, those that shadow a guest table
  u64 generation = 1;     // of pages made now; older ones are obsolete
  ShadowPage* condemned =
      nullptr;  // zapped, linked by `next`, to be freed after the flush (zap::commit)
};

// Host notifier: how a fault knows that its frame went stale under it (KVM: mmu_invalidate_seq and
// friends).
struct Notifier {
  // Written under the mmu lock; faults look before they take it, too.
  Concurrent<u64> sequence = 0;
  Concurrent<u32> in_progress = 0;
  Concurrent<Hva> start, end;  // union of the ranges in progress
};

struct VmState {
  VmState(Platform& p) : platform(p), pages(p) {}
  Platform& platform;
  VmConfig config;
  AddressSpace spaces[kAddressSpaces] = {{platform, 0}, {platform, 1}};
  PageCache pages;
  Notifier notifier;
  ReservedBits own_reserved;
  TablePage dummy;  // ptr null until the first invisible CR3
  VcpuState vcpu[kMaxVcpus] = {VcpuState{platform}, VcpuState{platform}, VcpuState{platform},
                               VcpuState{platform}};
  VmStats stats;
  u8* counters = nullptr;
  u8 locks_held[kMaxContexts] = {};  // by context, bit per LockId: for the order assertion
  u64 rmap_refs = 0;                 // leaves in all reverse chains together
  TdpVm tdp;
  u64 shape = 0;  // grows when a link or an MMIO entry comes or goes: what MMIO caches rest on
  bool flush_owed =
      false;  // some translation was removed or narrowed and no TLB flush was issued yet
};

// Of what a shadow page shadows or maps.
inline AddressSpace& space_of(VmState& vm, PageRole role) { return vm.spaces[role.space()]; }
inline const AddressSpace& space_of(const VmState& vm, PageRole role) {
  return vm.spaces[role.space()];
}
// In which the vCPU is now.
inline AddressSpace& space_of(const VcpuState& vcpu) {
  return vcpu.vm->spaces[vcpu.regs.smm ? 1 : 0];
}

// Lock order is slots, then mmu; checked here once for everybody, each context for itself: while it
// waits for a lock or yields, another may run.
class HeldLock {
 public:
  HeldLock(const HeldLock&) = delete;
  HeldLock& operator=(const HeldLock&) = delete;

 protected:
  HeldLock(VmState& vm, LockId id) : vm_(vm), id_(id), held_(held_by_context(vm)) {}
  ~HeldLock() = default;

  void note_taken() {
    if (held_ >> static_cast<unsigned>(id_)) vm_.platform.panic("lock order");
    held_ = static_cast<u8>(held_ | 1u << static_cast<unsigned>(id_));
  }
  void note_given_back() { held_ = static_cast<u8>(held_ & ~(1u << static_cast<unsigned>(id_))); }

  VmState& vm_;
  const LockId id_;

 private:
  static u8& held_by_context(VmState& vm) {
    const u32 context = vm.platform.context();
    if (context >= kMaxContexts) vm.platform.panic("a context that the core has no place for");
    return vm.locks_held[context];
  }

  u8& held_;
};

// For itself alone.
class Locked : private HeldLock {
 public:
  Locked(VmState& vm, LockId id) : HeldLock(vm, id) { take(); }
  ~Locked() { give_back(); }
  // Lets others have it for a while, in which `meanwhile()` runs.
  template <class F>
  void pause(YieldPoint point, F&& meanwhile) {
    give_back();
    meanwhile();
    vm_.platform.yield(point, 0);
    take();
  }
  void pause(YieldPoint point) {
    pause(point, [] {});
  }

 private:
  void take() {
    note_taken();
    vm_.platform.lock(id_);
  }
  void give_back() {
    note_given_back();
    vm_.platform.unlock(id_);
  }
};

// Together with others that want no more than this.
class LockedShared : private HeldLock {
 public:
  LockedShared(VmState& vm, LockId id) : HeldLock(vm, id) {
    note_taken();
    vm_.platform.lock_shared(id_);
  }
  ~LockedShared() {
    note_given_back();
    vm_.platform.unlock_shared(id_);
  }
};

}  // namespace mmu

#endif  // MMU_CORE_STATE_H_
