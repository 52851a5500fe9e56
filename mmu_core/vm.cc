#include <new>

#include "mmu_core/dirty_log.h"
#include "mmu_core/flush.h"
#include "mmu_core/host_tables.h"
#include "mmu_core/notifier.h"
#include "mmu_core/page_track.h"
#include "mmu_core/reclaim.h"
#include "mmu_core/roots.h"
#include "mmu_core/slots_in_use.h"
#include "mmu_core/state.h"
#include "mmu_core/tdp/attributes.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/tdp/hardware.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/tdp/roots.h"
#include "mmu_core/tdp/split.h"
#include "mmu_core/vcpu_setup.h"
#include "mmu_core/zap.h"

namespace mmu {
namespace {

constexpr u64 aligned(u64 size) { return (size + 15) & ~u64{15}; }

void configure(VmState& vm, const VmConfig& config) {
  vm.config = config;
  const u32 least = min_quota(config.vcpus);
  if (vm.config.quota < least) vm.config.quota = least;
  if (vm.config.host_levels < 3) vm.config.host_levels = 3;
  if (vm.config.host_levels > kMaxLevels) vm.config.host_levels = kMaxLevels;
  u32& ring_limit = vm.config.dirty_ring_limit;
  if (ring_limit == 0 || ring_limit > DirtyRing::kHalfFull) ring_limit = DirtyRing::kHalfFull;
  vm.own_reserved = shadow_reserved_bits(config.caps);
  vm.tdp.on = config.translation != Translation::kShadow;
  if (vm.tdp.on) vm.tdp.format = tdp::make_format(vm.config);
  // One bit that the tables translate, of EPT.
  u64& shared_bit = vm.config.shared_bit;
  if (!vm.tdp.on || !vm.tdp.format.ept || shared_bit >> vm.tdp.format.gpa_bits ||
      (shared_bit & (shared_bit - 1)) || shared_bit < kPageSize)
    shared_bit = 0;
  if (shared_bit) vm.spaces[0].slots.watch(vm.tdp.private_ranges, shared_bit >> 12);
  vm.config.external_private = shared_bit && config.external_private;
  vm.notifier = Notifier{};
  for (u32 i = 0; i < kMaxVcpus; ++i) {
    vm.vcpu[i].vm = &vm;
    vm.vcpu[i].id = i;
    reset_vcpu(vm.vcpu[i]);
  }
}

// Everything but memslots and caches: no root, no shadow page is left.
void drop_all_pages(VmState& vm) {
  for (VcpuState& v : vm.vcpu) {
    roots::free_all(v);
    tdp::unload(v);
  }
  if (vm.tdp.on) tdp::destroy(vm);
  Locked lock(vm, LockId::kMmu);
  while (vm.pages.oldest) zap::page(vm, vm.pages.oldest);
  zap::commit(vm);
  if (vm.pages.invalid_roots) vm.platform.panic("a root outlived its vCPUs");
  for (VcpuState& v : vm.vcpu) host_tables::free(v);
  vm.pages.hash.shrink();
  if (vm.dummy.ptr) {
    vm.platform.free_table(vm.dummy.hpa);
    vm.dummy = TablePage{};
  }
}

// Step 1 of whatever takes a slot away: no new translation, then none at all (KVM:
// kvm_invalidate_memslot).
Status retire(VmState& vm, Memslots& slots, u32 id) {
  const Status s = slots.publish_invalid(id);
  if (s != Status::kOk) return s;
  vm.platform.yield(YieldPoint::kSlotSwapped, 0);
  vm.platform.wait_for_users_of_slots();
  if (vm.tdp.on) {
    tdp::zap_slot(vm, *slots.by_id(id));
    // Nobody writes there any more. What the hardware has noted names gfns that are about to mean
    // nothing, or another slot.
    Locked lock(vm, LockId::kMmu);
    pml::flush_all(vm);
    return Status::kOk;
  }
  Locked lock(vm, LockId::kMmu);
  zap::all_fast(vm);
  return Status::kOk;
}

// What only the slot as it was before the last publish holds. Under the mmu lock, as is whoever
// follows reverse maps or counts.
void free_old_arrays(VmState& vm, Memslots& slots, u32 id, const Memslot& before) {
  Locked lock(vm, LockId::kMmu);
  SlotArrays gone = slots.take_arrays(id);
  slots.free_arrays(gone, before.pages, before.base);
}

// Bits of the addresses that a memslot may have.
u8 gpa_bits(const VmState& vm) {
  const u8 guest = vm.config.caps.maxphyaddr;
  if (!vm.tdp.on) return guest;
  const u64 shared_bit = vm.config.shared_bit;
  const u8 tables =
      shared_bit ? static_cast<u8>(__builtin_ctzll(shared_bit)) : vm.tdp.format.gpa_bits;
  return tables < guest ? tables : guest;
}

// Takes away all MMIO entries, and what vCPUs remember of them, while the old generation still
// stands: none that was made at the same low bits long ago comes to life with the new one.
void forget_mmio(VmState& vm) {
  if (vm.tdp.on) return tdp::zap_all_fast(vm);
  Locked lock(vm, LockId::kMmu);
  zap::all_fast(vm);
  ++vm.shape;
}

void finish_update(VmState& vm, Memslots& slots) {
  if (slots.next_generation_wraps()) forget_mmio(vm);
  slots.finish_update();
}

// A dummy root may have become visible, or a visible one have gone.
void reconsider_roots(VmState& vm) {
  for (u32 i = 0; i < vm.config.vcpus; ++i) vm.vcpu[i].free_obsolete_roots = true;
}

}  // namespace

u64 Vm::object_size() { return aligned(sizeof(Vm)) + sizeof(VmState); }

Vm* Vm::create(void* storage, Platform& platform, const VmConfig& config) {
  Vm* vm = new (storage) Vm;
  vm->state_ = new (static_cast<u8*>(storage) + aligned(sizeof(Vm))) VmState(platform);
  for (u32 i = 0; i < kMaxVcpus; ++i) vm->vcpu_[i].state_ = &vm->state_->vcpu[i];
  configure(*vm->state_, config);
  return vm;
}

void Vm::destroy() {
  drop_all_pages(*state_);
  for (AddressSpace& space : state_->spaces) space.slots.clear();
  for (VcpuState& v : state_->vcpu) v.caches.drain();
}

Vcpu& Vm::vcpu(u32 index) { return vcpu_[index]; }

Status Vm::set_memslot(const MemslotRequest& request) {
  using Kind = MemslotRequest::Kind;
  VmState& vm = *state_;
  if (request.space >= kAddressSpaces) return Status::kInvalid;
  Memslots& slots = vm.spaces[request.space].slots;
  Locked lock(vm, LockId::kSlots);
  if (const Status s = slots.validate(request, gpa_bits(vm)); s != Status::kOk) return s;
  const Memslot* old = slots.by_id(request.id);
  const Memslot before = old ? *old : Memslot{};
  if (!tdp::may_be_private(vm, request, before)) return Status::kInvalid;
  if (request.kind == Kind::kMove && request.gfn == before.base) return Status::kOk;
  const bool removes = request.kind == Kind::kDelete || request.kind == Kind::kMove ||
                       (request.kind == Kind::kFlags && before.read_only != request.read_only);
  const bool ends_tracking =
      (request.kind == Kind::kDelete || request.kind == Kind::kMove) && page_track::any(vm, before);
  if (removes) {
    if (const Status s = retire(vm, slots, request.id); s != Status::kOk) return s;
  }
  if (const Status s = slots.publish(request); s != Status::kOk) {
    if (removes) {
      slots.restore(request.id);
      vm.platform.wait_for_users_of_slots();
    }
    finish_update(vm, slots);
    return s;
  }
  // From here on nobody uses what the slot was before.
  vm.platform.wait_for_users_of_slots();
  Memslot* now = slots.by_id(request.id);
  if (now && now->log_dirty && !before.log_dirty) {
    Locked mmu(vm, LockId::kMmu);
    dirty_log::begin(vm, mmu, *now);
  }
  if (now && !now->log_dirty && before.log_dirty && vm.tdp.on) {
    Locked mmu(vm, LockId::kMmu);
    tdp::collapse(vm, mmu, *now);
  }
  finish_update(vm, slots);
  free_old_arrays(vm, slots, request.id, before);
  reconsider_roots(vm);
  if (ends_tracking) vm.platform.on_tracked_slot_gone(request.space, before.base, before.pages);
  return Status::kOk;
}

bool Vm::get_dirty_log(u32 space, u32 slot, u64* bitmap, u64 words) {
  return dirty_log::collect(*state_, space, slot, bitmap, words);
}
bool Vm::clear_dirty_log(u32 space, u32 slot, u64 first, u64 pages, const u64* bitmap) {
  return dirty_log::clear(*state_, space, slot, first, pages, bitmap);
}
void Vm::notifier_begin(Hva start, Hva end) {
  const SlotsInUse slots(state_->platform);
  notifier::begin(*state_, start, end);
}
void Vm::notifier_end(Hva start, Hva end) { notifier::end(*state_, start, end); }
bool Vm::age(Hva start, Hva end, bool clear) {
  const SlotsInUse slots(state_->platform);
  return notifier::age(*state_, start, end, clear);
}

u64 Vm::reclaim(u64 pages) {
  VmState& vm = *state_;
  const SlotsInUse slots(vm.platform);
  Locked lock(vm, LockId::kMmu);
  ++vm.stats.reclaims;
  const u32 want = pages > vm.pages.used ? vm.pages.used : static_cast<u32>(pages);
  const u32 got = reclaim::zap_oldest(vm, want);
  zap::commit(vm);
  return got;
}

void Vm::zap_all() {
  if (state_->tdp.on) {
    Locked slots(*state_, LockId::kSlots);  // one at a time
    return tdp::zap_all_fast(*state_);
  }
  const SlotsInUse slots(state_->platform);
  Locked lock(*state_, LockId::kMmu);
  zap::all_fast(*state_);
}

void Vm::set_quota(u32 pages) {
  VmState& vm = *state_;
  const SlotsInUse slots(vm.platform);
  Locked lock(vm, LockId::kMmu);
  const u32 least = min_quota(vm.config.vcpus);
  vm.config.quota = pages == 0 ? kDefaultQuota : pages < least ? least : pages;
  if (vm.pages.used > vm.config.quota) reclaim::zap_oldest(vm, vm.pages.used - vm.config.quota);
  zap::commit(vm);
}

const VmStats& Vm::stats() const { return state_->stats; }
void Vm::set_state_counters(u8* counters) { state_->counters = counters; }

}  // namespace mmu
