#include "mmu_core/emulate.h"

#include "mmu_core/guest_walker.h"
#include "mmu_core/pt_write.h"
#include "mmu_core/roots.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/zap.h"

namespace mmu::emulate {
namespace {

// Bytes [at, at + size) of an access that lie in one page.
struct Part {
  Gpa gpa;
  unsigned size = 0;
  unsigned at = 0;  // offset in the value, bytes
  const Memslot* slot = nullptr;
};

u64 low_bytes(u64 v, unsigned n) { return n >= 8 ? v : v & ((u64{1} << (8 * n)) - 1); }

// Largest naturally aligned piece at `a` of at most n bytes.
unsigned piece(u64 a, unsigned n) {
  unsigned s = 8;
  while (s > n || (a & (s - 1))) s /= 2;
  return s;
}

bool read(GuestMemory& memory, const Part& part, u64& value) {
  for (unsigned done = 0; done < part.size;) {
    const unsigned n = piece(part.gpa.raw + done, part.size - done);
    u64 v = 0;
    if (memory.read(*part.slot, part.gpa + done, n, v) != GuestMemory::Result::kOk) return false;
    value |= low_bytes(v, n) << (8 * (part.at + done));
    done += n;
  }
  return true;
}

bool store(GuestMemory& memory, const Part& part, u64 value) {
  for (unsigned done = 0; done < part.size;) {
    const unsigned n = piece(part.gpa.raw + done, part.size - done);
    const u64 bytes = low_bytes(value >> (8 * (part.at + done)), n);
    if (memory.write(*part.slot, part.gpa + done, n, bytes) != GuestMemory::Result::kOk)
      return false;
    done += n;
  }
  return true;
}

// Through which slot the part goes, and what slot and host let it do; kDone: go on. It does until
// the access is done, although the memslots may change meanwhile.
EmulateResult::Kind permitted(const VmState& vm, const Memslots& slots, Part& part, bool write) {
  using Kind = EmulateResult::Kind;
  const Gfn gfn = Gfn::of(slots.without_shared_bit(part.gpa));
  part.slot = slots.reached(Gfn::of(part.gpa));
  if (part.slot && part.slot->invalid) return Kind::kRetry;
  if (!part.slot || (write && part.slot->read_only)) return Kind::kMmio;
  switch (vm.platform.lookup_frame(part.slot->hva_of(gfn), write).kind) {
    case FrameLookup::Kind::kFrame:
      return Kind::kDone;
    case FrameLookup::Kind::kReadOnly:
      return Kind::kMmio;
    case FrameLookup::Kind::kPoisoned:
      return Kind::kPoisoned;
    case FrameLookup::Kind::kNoFrame:
    case FrameLookup::Kind::kLater:
      break;
  }
  return Kind::kNoMemory;
}

// Stores `value` where `old` was, in one go; false if that is not there any more. KVM:
// emulator_cmpxchg_emulated, for which all that lies in one page is one go.
bool exchange(GuestMemory& memory, const Part& part, u64 old, u64 value) {
  return memory.compare_exchange(*part.slot, part.gpa, part.size, low_bytes(old, part.size),
                                 low_bytes(value, part.size)) == GuestMemory::Result::kOk;
}

// The guest's store is done.
void note_stored(VcpuState& vcpu, const Part& part) {
  VmState& vm = *vcpu.vm;
  const Gpa own = space_of(vcpu).slots.without_shared_bit(part.gpa);
  if (vcpu.tdp.ring) dirty_ring::push(vcpu, *part.slot, Gfn::of(own));
  Locked lock(vm, LockId::kMmu);
  pt_write::track(vm, vcpu.role.space(), part.gpa, part.size);
  zap::commit(vm);
}

void push(VcpuState& vcpu, Gfn gfn) {
  const Memslots& slots = space_of(vcpu).slots;
  const Gfn own = Gfn::of(slots.without_shared_bit(gfn.base()));
  if (const Memslot* slot = slots.reached(gfn)) dirty_ring::push(vcpu, *slot, own);
}

// Those that the walk may have set A or D in.
void push_tables(VcpuState& vcpu, const GuestWalk& walk) {
  for (unsigned level = walk.level; level <= walk.top; ++level) push(vcpu, walk.table[level - 1]);
}

// The store comes first and outside the lock: it may make the host copy the frame, which calls
// back. All of it, so that little else comes in between: over two pages it is not one go, as it is
// not in KVM (emulator_cmpxchg_emulated, "emulating exchange as write").
void write_and_track(VcpuState& vcpu, const Part* part, unsigned parts, u64 value) {
  VmState& vm = *vcpu.vm;
  for (unsigned i = 0; i < parts; ++i)
    if (!store(space_of(vcpu).memory, part[i], value))
      vm.platform.panic("emulated store failed after it was checked");
  for (unsigned i = 0; i < parts; ++i) note_stored(vcpu, part[i]);
}

unsigned split(u64 address, unsigned size, Part (&parts)[2]) {
  const unsigned room = static_cast<unsigned>(kPageSize - (address & (kPageSize - 1)));
  parts[0].size = size < room ? size : room;
  if (size <= room) return 1;
  parts[1].size = size - room;
  parts[1].at = room;
  return 2;
}

EmulateResult left_undone(EmulateResult::Kind why, Gpa gpa) {
  EmulateResult r;
  r.kind = why;
  r.gpa = gpa;
  return r;
}

}  // namespace

EmulateResult linear(VcpuState& vcpu, Gva gva, Access access, unsigned size, u64 value,
                     bool implicit) {
  VmState& vm = *vcpu.vm;
  AddressSpace& space = space_of(vcpu);
  // The PDPTEs stay as the fault that led here has read them: one access uses one value of each.
  AccessRequest request;
  request.write = access == Access::kWrite || access == Access::kRmw;
  request.fetch = access == Access::kFetch;
  request.implicit = implicit;
  request.user = vcpu.regs.cpl == 3 && !implicit;
  Part part[2];
  const unsigned parts = split(gva.raw, size, part);
  for (unsigned i = 0; i < parts; ++i) {  // both halves are translated before anything is stored
    // One that goes beyond 4 GiB continues at 0 there (SDM: implementation specific).
    const Gva at = linear_address(*vcpu.context.mode, gva + part[i].at);
    const GuestWalk walk =
        walk_guest(space.memory, vcpu.context, vcpu.regs, at, request, AdUpdate::kYes);
    if (walk.slot_leaves) return left_undone(EmulateResult::Kind::kRetry, walk.entry_gpa[0]);
    if (!walk.ok) {
      if (!vm.tdp.on) roots::sync_address(vcpu, at);
      EmulateResult r;
      r.kind = EmulateResult::Kind::kInject;
      r.error_code = walk.error_code;
      r.fault_gva = at;
      return r;
    }
    if (vcpu.tdp.ring) push_tables(vcpu, walk);
    part[i].gpa = walk.gfn.base() + (at.raw & (kPageSize - 1));
  }
  for (unsigned i = 0; i < parts; ++i)
    if (const auto why = permitted(vm, space.slots, part[i], request.write);
        why != EmulateResult::Kind::kDone)
      return left_undone(why, part[i].gpa);

  EmulateResult r;
  r.gpa = part[0].gpa;
  if (parts == 2) r.gpa2 = part[1].gpa;
  if (access != Access::kWrite)
    for (unsigned i = 0; i < parts; ++i)
      if (!read(space.memory, part[i], r.value))
        vm.platform.panic("emulated load failed after it was checked");
  if (access == Access::kRmw) {
    // No compiler writes page tables like this: give up shadowing the frame rather than emulate
    // again and again.
    {
      Locked lock(vm, LockId::kMmu);
      for (unsigned i = 0; i < parts; ++i)
        zap::unprotect(vm, vcpu.role.space(), Gfn::of(part[i].gpa));
      zap::commit(vm);
    }
    value += r.value;
    if (parts == 1) {
      if (!exchange(space.memory, part[0], r.value, value))
        return left_undone(EmulateResult::Kind::kRetry, part[0].gpa);
      note_stored(vcpu, part[0]);
      return r;
    }
    // Others may have stored while the flush was under way.
    u64 now = 0;
    for (const Part& p : part) static_cast<void>(read(space.memory, p, now));
    if (now != r.value) return left_undone(EmulateResult::Kind::kRetry, part[0].gpa);
  }
  if (request.write) write_and_track(vcpu, part, parts, value);
  return r;
}

EmulateResult physical_write(VcpuState& vcpu, Gpa gpa, unsigned size, u64 value) {
  const AddressSpace& space = space_of(vcpu);
  Part part[2];
  const unsigned parts = split(gpa.raw, size, part);
  for (unsigned i = 0; i < parts; ++i) {
    part[i].gpa = gpa + part[i].at;
    if (const auto why = permitted(*vcpu.vm, space.slots, part[i], true);
        why != EmulateResult::Kind::kDone)
      return left_undone(why, part[i].gpa);
  }
  write_and_track(vcpu, part, parts, value);
  EmulateResult r;
  r.gpa = part[0].gpa;
  if (parts == 2) r.gpa2 = part[1].gpa;
  return r;
}

}  // namespace mmu::emulate
