#include "mmu_core/tdp/dirty_ring.h"

namespace mmu::dirty_ring {

bool prepare(VcpuState& vcpu) {
  VmState& vm = *vcpu.vm;
  if (!vm.config.options.dirty_ring || vcpu.tdp.ring) return true;
  void* const object = vm.platform.alloc_object(sizeof(DirtyRing));
  if (!object) return false;
  auto* const ring = static_cast<DirtyRing*>(object);
  ring->first = ring->count = 0;
  vcpu.tdp.ring = ring;
  return true;
}

bool is_due(const VcpuState& vcpu) {
  return vcpu.tdp.ring && vcpu.tdp.ring->count >= vcpu.vm->config.dirty_ring_limit;
}

void push(VcpuState& vcpu, const Memslot& slot, Gfn gfn) {
  DirtyRing* const ring = vcpu.tdp.ring;
  if (!ring || !slot.log_dirty || ring->count == DirtyRing::kRoom) return;
  const u64 space = u64{slot.space} << 63;
  ring->word[(ring->first + ring->count++) % DirtyRing::kRoom] = gfn.raw | space;
}

void mark(VcpuState& vcpu, const Memslot& slot, Gfn gfn) {
  GuestMemory::mark_dirty(slot, gfn);
  push(vcpu, slot, gfn);
}

u32 take(VcpuState& vcpu, Gfn* gfns, u32 most) {
  DirtyRing* const ring = vcpu.tdp.ring;
  if (!ring) return 0;
  u32 n = 0;
  for (; n < most && ring->count; ++n, --ring->count) {
    gfns[n] = Gfn{ring->word[ring->first]};
    ring->first = (ring->first + 1) % DirtyRing::kRoom;
  }
  return n;
}

void release(VcpuState& vcpu) {
  if (vcpu.tdp.ring) vcpu.vm->platform.free_object(vcpu.tdp.ring, sizeof(DirtyRing));
  vcpu.tdp.ring = nullptr;
}

}  // namespace mmu::dirty_ring
