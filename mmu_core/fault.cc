#include "mmu_core/fault.h"

#include "mmu_core/async_fault.h"
#include "mmu_core/counters.h"
#include "mmu_core/fetch.h"
#include "mmu_core/flush.h"
#include "mmu_core/guest_walker.h"
#include "mmu_core/mmio.h"
#include "mmu_core/notifier.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/pdptes.h"
#include "mmu_core/reclaim.h"
#include "mmu_core/roots.h"
#include "mmu_core/tracking.h"
#include "mmu_core/zap.h"

namespace mmu {
namespace {

using Kind = FaultResult::Kind;

FaultResult result(Kind kind, Gpa gpa = Gpa{}) {
  FaultResult r;
  r.kind = kind;
  r.gpa = gpa;
  return r;
}

FaultResult inject(VcpuState& vcpu, Gva gva, u32 code) {
  count(*vcpu.vm, Event::kInject, 0, vcpu.role);
  // The architecture drops the address from the TLB with the fault: a stale shadow entry must not
  // bring it back. Whatever the code says: with P=0 it is the guest's entry that went, not yet the
  // shadow's.
  roots::sync_address(vcpu, gva);
  FaultResult r = result(Kind::kInject);
  r.error_code = code;
  return r;
}

// CR0.WP = 0: the supervisor writes to what the guest made read-only, while the hardware runs with
// WP = 1. The entry becomes writable and loses U, so that no user access gets through it, and X
// under SMEP, since a page without U would escape SMEP. Under SMAP and PKE it would escape those as
// well, and nothing in an entry can make up for it: such a write is emulated. So is one that the
// hardware, for the same WP = 1, refuses by PKRU.WD.
enum class WpCase { kNone, kTrick, kEmulate };
WpCase wp_case(const VcpuState& vcpu, const GuestWalk& walk, AccessRequest request) {
  const WalkContext& c = vcpu.context;
  if (!request.write || request.user || c.wp) return WpCase::kNone;
  const bool user_page = walk.access & acc::kU;
  const bool write_disabled = vcpu.regs.pkru >> (2 * walk.pkey + 1) & 1;
  if (user_page && c.pke && write_disabled) return WpCase::kEmulate;
  if (walk.access & acc::kW) return WpCase::kNone;
  return user_page && (c.smap || c.pke) ? WpCase::kEmulate : WpCase::kTrick;
}

u8 access_to_install(const VcpuState& vcpu, const GuestWalk& walk, AccessRequest request,
                     WpCase wp) {
  u8 access = walk.access;  // an MMIO entry keeps these: its rights are checked anew at each access
  if (wp == WpCase::kTrick) {
    access = static_cast<u8>((access | acc::kW) & ~acc::kU);
    if (vcpu.context.smep) access = static_cast<u8>(access & ~acc::kX);
  }
  // Until the guest's D is set the first write must fault.
  if (!request.write && !(walk.entry[walk.level - 1] & pte::kD))
    access = static_cast<u8>(access & ~acc::kW);
  return access;
}

// Of an array any of the four pages counts: they come and go together. A page that is missing has
// appeared: the walk went through it.
bool root_is_stale(const VcpuState& vcpu, Gva gva) {
  return !vcpu.root.page_for(gva) || roots::is_obsolete(vcpu, vcpu.root);
}

// Why there is no frame to map.
FaultResult without_frame(FrameLookup::Kind why, Gpa gpa, u64 token) {
  switch (why) {
    case FrameLookup::Kind::kReadOnly:
      return result(Kind::kMmio, gpa);
    case FrameLookup::Kind::kPoisoned:
      return result(Kind::kPoisoned, gpa);
    case FrameLookup::Kind::kLater: {
      FaultResult r = result(Kind::kLater, gpa);
      r.token = token;
      return r;
    }
    case FrameLookup::Kind::kNoFrame:
    case FrameLookup::Kind::kFrame:
      break;
  }
  return result(Kind::kNoMemory);
}

// The frame, for which the vCPU may have to wait.
FrameLookup look_up(VcpuState& vcpu, Gva gva, AccessRequest request, const Fetch& fault,
                    u64& token) {
  AsyncFault async;
  async.space = fault.slot->space;
  async.gfn = fault.walk->gfn;
  async.gva = gva;
  async.request = request;
  async.role = vcpu.role;
  async.cr3 = vcpu.regs.cr3;
  const FrameLookup found =
      async::look_up(vcpu, async, fault.slot->hva_of(async.gfn), request.write);
  token = async.token;
  return found;
}

// The part under the mmu lock.
FaultResult install(VcpuState& vcpu, Gva gva, const Fetch& fault, const notifier::Snapshot& seen,
                    Gpa gpa) {
  VmState& vm = *vcpu.vm;
  Locked lock(vm, LockId::kMmu);
  if (!reclaim::make_pages_available(vm)) return result(Kind::kNoMemory);
  vm.pages.hash.fit(vm.pages.used, vm.pages.oldest);
  // Only now: making pages available may have zapped the root in use.
  if (root_is_stale(vcpu, gva) || fault.slot_generation != space_of(vcpu).slots.generation()) {
    count(vm, Event::kRetryStale, 0, vcpu.role);
    vcpu.free_obsolete_roots = true;
    return result(Kind::kRetry);
  }
  if (fault.slot && notifier::changed(vm, seen, fault.slot->hva_of(fault.walk->gfn))) {
    count(vm, Event::kRetryNotifier, 0, vcpu.role);
    return result(Kind::kRetry);
  }
  const FetchResult fetched = fetch(vcpu, gva, fault);
  zap::commit(vm);
  switch (fetched) {
    case FetchResult::kWriteProtected:
      return result(Kind::kEmulate, gpa);
    case FetchResult::kMmio:
      return result(Kind::kMmio, gpa);
    default:
      return result(Kind::kRetry, gpa);
  }
}

// Has every entry of the walk its A already?
bool was_accessed(const GuestWalk& walk) {
  for (unsigned level = walk.level; level <= walk.top; ++level)
    if (!(walk.entry[level - 1] & pte::kA)) return false;
  return true;
}

}  // namespace

void map_ahead(VcpuState& vcpu, Gva gva, AccessRequest request) {
  VmState& vm = *vcpu.vm;
  AddressSpace& space = space_of(vcpu);
  request.write = false;
  if (!roots::make_ready(vcpu) || !vcpu.caches.top_up()) return;
  const GuestWalk walk =
      walk_guest(space.memory, vcpu.context, vcpu.regs, gva, request, AdUpdate::kNo);
  if (!walk.ok || !was_accessed(walk)) return;
  Fetch fault;
  fault.walk = &walk;
  fault.ahead = true;
  fault.slot = space.slots.find(walk.gfn);
  fault.slot_generation = space.slots.generation();
  if (!fault.slot || fault.slot->invalid) return;
  fault.access = access_to_install(vcpu, walk, request, WpCase::kNone);
  const notifier::Snapshot seen = notifier::snapshot(vm);
  fault.frame = vm.platform.lookup_frame(fault.slot->hva_of(walk.gfn), false);
  if (fault.frame.kind != FrameLookup::Kind::kFrame) return;
  vm.platform.yield(YieldPoint::kAfterFrame, vcpu.id);
  install(vcpu, gva, fault, seen, walk.gfn.base());
}

FaultResult handle_fault(VcpuState& vcpu, Gva gva, u32 error_code, bool implicit) {
  VmState& vm = *vcpu.vm;
  AddressSpace& space = space_of(vcpu);
  ++vm.stats.faults;
  pdptes::reread(vcpu);
  AccessRequest request;
  request.write = error_code & pfec::kW;
  request.fetch = error_code & pfec::kI;
  request.implicit = implicit;
  request.user = (error_code & pfec::kU) && !implicit;

  Gpa gpa;
  if ((error_code & pfec::kRsvd) && mmio::handle(vcpu, gva, request, gpa)) {
    const Memslot* appeared = space.slots.find(Gfn::of(gpa));
    if (!appeared) return result(Kind::kMmio, gpa);
  }
  if (!vcpu.caches.top_up()) return result(Kind::kNoMemory);

  const GuestWalk walk =
      walk_guest(space.memory, vcpu.context, vcpu.regs, gva, request, AdUpdate::kYes);
  vm.platform.yield(YieldPoint::kAfterWalk, vcpu.id);
  if (walk.slot_leaves) return result(Kind::kRetry);
  if (!walk.ok) return inject(vcpu, gva, walk.error_code);
  gpa = walk.gfn.base() + (gva.raw & (kPageSize - 1));

  const WpCase wp = wp_case(vcpu, walk, request);
  Fetch fault;
  fault.walk = &walk;
  fault.write = request.write;
  fault.slot = space.slots.find(walk.gfn);
  fault.slot_generation = space.slots.generation();
  fault.access = access_to_install(vcpu, walk, request, fault.slot ? wp : WpCase::kNone);
  const notifier::Snapshot seen = notifier::snapshot(vm);
  if (fault.slot) {
    if (fault.slot->invalid)
      return result(Kind::kRetry);  // being deleted: neither memory nor MMIO yet
    if (request.write && fault.slot->read_only) return result(Kind::kMmio, gpa);
    if (wp == WpCase::kEmulate) return result(Kind::kEmulate, gpa);
    if (request.write && tracking::is_tracked(*fault.slot, walk.gfn)) {
      count(vm, Event::kEmulate, 0, vcpu.role);
      return result(Kind::kEmulate, gpa);
    }
    u64 token = 0;
    fault.frame = look_up(vcpu, gva, request, fault, token);
    if (fault.frame.kind != FrameLookup::Kind::kFrame)
      return without_frame(fault.frame.kind, gpa, token);
  }
  if (wp == WpCase::kTrick) count(vm, Event::kWpTrick, 0, vcpu.role);
  vm.platform.yield(YieldPoint::kAfterFrame, vcpu.id);
  const FaultResult r = install(vcpu, gva, fault, seen, gpa);
  vm.platform.yield(YieldPoint::kAfterInstall, vcpu.id);
  return r;
}

}  // namespace mmu
