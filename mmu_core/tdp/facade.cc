// What the facade has for two-dimensional paging alone.

#include "mmu_core/tdp/fault.h"

namespace mmu {

FaultResult Vcpu::handle_tdp_fault(const TdpFault& fault) {
  if (!state_->vm->tdp.on) state_->vm->platform.panic("a fault of a dimension that is not there");
  return tdp::handle_fault(*state_, fault);
}

}  // namespace mmu
