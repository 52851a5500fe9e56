#include "mmu_core/mmio.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/shadow_walk.h"

namespace mmu::mmio {
namespace {

constexpr u64 kOffset = kPageSize - 1;

// A cached entry without W answers no write, even one that CR0.WP=0 permits: W may be missing
// because D is not set.
bool permitted(const VcpuState& vcpu, u8 access, AccessRequest request) {
  if (request.write && !(access & acc::kW)) return false;
  return permission_fault(vcpu.context, vcpu.regs, access, 0, request) == 0;
}

Gpa gpa_of(Gfn gfn, Gva gva) { return gfn.base() + (gva.raw & kOffset); }

}  // namespace

bool handle(VcpuState& vcpu, Gva gva, AccessRequest request, Gpa& gpa) {
  VmState& vm = *vcpu.vm;
  const u64 generation = space_of(vcpu).slots.generation() & spte::kMmioGenMask;
  MmioCache& c = vcpu.mmio;
  if (c.valid && c.page.raw == (gva.raw & ~kOffset) && c.generation == generation &&
      c.shape == vm.shape && permitted(vcpu, c.access, request)) {
    gpa = gpa_of(c.gfn, gva);
    count(vm, Event::kMmioHit, 0, vcpu.role);
    return true;
  }
  bool found = false;
  shadow_walk(vcpu.root, gva, [&](SpteRef ref) {
    const u64 s = entries::load(ref);
    if (!spte::is_mmio(s)) return true;
    if (spte::mmio_generation(s) != generation) {
      count(vm, Event::kMmioStale, *ref.page);
    } else if (permitted(vcpu, spte::access_of(s), request)) {
      c = {true,    Gva{gva.raw & ~kOffset}, spte::mmio_gfn(s), spte::access_of(s), generation,
           vm.shape};
      gpa = gpa_of(c.gfn, gva);
      found = true;
    }
    return false;
  });
  if (found) count(vm, Event::kMmioHit, 1, vcpu.role);
  return found;
}

void forget(VcpuState& vcpu) { vcpu.mmio.valid = false; }

void forget(VcpuState& vcpu, Gva gva) {
  if (vcpu.mmio.page.raw == (gva.raw & ~kOffset)) forget(vcpu);
}

}  // namespace mmu::mmio
