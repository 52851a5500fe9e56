#include "mmu_core/tdp/identity_map.h"

namespace mmu::tdp {
namespace {

constexpr u32 kDirectoryEntries = 1024;
constexpr u64 kFlags = pte::kP | pte::kW | pte::kU | pte::kA | pte::kD | pte::kPs;

}  // namespace

bool write_identity_map(VcpuState& vcpu) {
  AddressSpace& space = space_of(vcpu);
  Concurrent<u64>& written_for = vcpu.vm->tdp.identity_map_generation[vcpu.regs.smm ? 1 : 0];
  if (written_for == space.slots.generation()) return true;
  for (u32 i = 0; i < kDirectoryEntries; ++i) {
    const Gpa at = vcpu.vm->config.identity_map + u64{i} * 4;
    if (space.memory.write(at, 4, u64{i} << 22 | kFlags) != GuestMemory::Result::kOk) return false;
  }
  written_for = space.slots.generation();
  return true;
}

}  // namespace mmu::tdp
