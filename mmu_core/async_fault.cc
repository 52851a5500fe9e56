#include "mmu_core/async_fault.h"

#include "mmu_core/counters.h"
#include "mmu_core/fault.h"
#include "mmu_core/roots.h"
#include "mmu_core/slots_in_use.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/prefault.h"

namespace mmu::async {
namespace {

AsyncFault* place_for(AsyncFaults& faults, const AsyncFault& fault) {
  AsyncFault* free = nullptr;
  for (AsyncFault& f : faults.waiting) {
    if (f.token && f.space == fault.space && f.gfn == fault.gfn) return &f;
    if (!f.token) free = &f;
  }
  return free;
}

void count_it(const VcpuState& vcpu, Event event, TdpEvent tdp_event) {
  if (vcpu.vm->tdp.on) {
    count(*vcpu.vm, tdp_event);
  } else {
    count(*vcpu.vm, event, 0, vcpu.role);
  }
}

}  // namespace

FrameLookup look_up(VcpuState& vcpu, AsyncFault& fault, Hva hva, bool write) {
  Platform& platform = vcpu.vm->platform;
  AsyncFault* const place = place_for(vcpu.async, fault);
  if (!place) return platform.lookup_frame(hva, write);
  FrameLookup found;
  if (place->token) {  // the guest runs into it again
    fault.token = place->token;
    found.kind = FrameLookup::Kind::kLater;
    return found;
  }
  const u64 token = ++vcpu.async.made << 8 | vcpu.id;
  found = platform.lookup_frame_or_later(hva, write, token);
  if (found.kind == FrameLookup::Kind::kLater) {
    fault.token = token;
    *place = fault;
    count_it(vcpu, Event::kAsyncLater, TdpEvent::kAsyncLater);
  }
  return found;
}

bool ready(VcpuState& vcpu, u64 token) {
  if (!token) return false;
  for (AsyncFault& waiting : vcpu.async.waiting) {
    if (waiting.token != token) continue;
    const AsyncFault fault = waiting;
    waiting = AsyncFault{};
    const bool tdp = vcpu.vm->tdp.on;
    if (!tdp && (fault.role != vcpu.role || fault.cr3 != vcpu.regs.cr3)) {
      count_it(vcpu, Event::kAsyncDropped, TdpEvent::kAsyncReady);
      return false;
    }
    count_it(vcpu, Event::kAsyncReady, TdpEvent::kAsyncReady);
    if (tdp) {
      tdp::prefault(vcpu, fault.gpa, 1);
    } else {
      map_ahead(vcpu, fault.gva, fault.request);
    }
    return true;
  }
  return false;
}

void forget(VcpuState& vcpu) {
  for (AsyncFault& f : vcpu.async.waiting) f = AsyncFault{};
}

}  // namespace mmu::async

namespace mmu {

bool Vcpu::async_page_ready(u64 token) {
  const SlotsInUse slots(state_->vm->platform);
  return async::ready(*state_, token);
}

}  // namespace mmu
