#include "mmu_core/tdp/prefault.h"

#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/fault.h"
#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {
namespace {

constexpr unsigned kTries = 16;

// A root that became obsolete must be let go of here: no entry of the vCPU comes in between.
bool reload(VcpuState& vcpu) {
  unload_obsolete(vcpu);
  return load_all(vcpu);
}

bool map_one(VcpuState& vcpu, Gpa gpa) {
  for (unsigned i = 0; i < kTries; ++i) {
    if (!reload(vcpu)) return false;
    TdpFault fault;
    fault.gpa = gpa;
    fault.read = true;
    const u64 shared_bit = vcpu.vm->config.shared_bit;
    fault.is_private = shared_bit && !(gpa.raw & shared_bit);
    const Answer answer = answer_fault(vcpu, fault, nullptr);
    if (answer != Answer::kRetry) return answer == Answer::kMapped;
  }
  return false;
}

}  // namespace

u64 prefault(VcpuState& vcpu, Gpa gpa, u64 pages) {
  u64 done = 0;
  while (done < pages && map_one(vcpu, gpa + done * kPageSize)) ++done;
  count(*vcpu.vm, TdpEvent::kPrefault);
  return done;
}

}  // namespace mmu::tdp
