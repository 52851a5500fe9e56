// What the facade has for two-dimensional paging alone.

#include "mmu_core/slots_in_use.h"
#include "mmu_core/tdp/attributes.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/tdp/fault.h"
#include "mmu_core/tdp/nx_huge_pages.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/tdp/prefault.h"

namespace mmu {

FaultResult Vcpu::handle_tdp_fault(const TdpFault& fault) {
  if (!state_->vm->tdp.on) state_->vm->platform.panic("a fault of a dimension that is not there");
  const SlotsInUse slots(state_->vm->platform);
  return tdp::handle_fault(*state_, fault);
}

void Vcpu::flush_pml(u16 index) {
  const SlotsInUse slots(state_->vm->platform);
  pml::flush(*state_, index);
}

u32 Vcpu::take_dirty_ring(Gfn* gfns, u32 most) {
  const SlotsInUse slots(state_->vm->platform);
  pml::flush(*state_, pml::kFull);  // the ring has what the log has
  return dirty_ring::take(*state_, gfns, most);
}

u64 Vcpu::prefault(Gpa gpa, u64 pages) {
  const SlotsInUse slots(state_->vm->platform);
  return state_->vm->tdp.on ? tdp::prefault(*state_, gpa, pages) : 0;
}

u64 Vm::recover_nx_huge_pages(u64 pages) {
  const SlotsInUse slots(state_->platform);
  return state_->tdp.on ? tdp::recover_nx_huge_pages(*state_, pages) : 0;
}

Status Vm::set_private(Gfn gfn, u64 pages, bool is_private) {
  return tdp::set_private(*state_, gfn, pages, is_private);
}

}  // namespace mmu
