#ifndef MMU_CORE_ADDRESS_SPACE_H_
#define MMU_CORE_ADDRESS_SPACE_H_

// Guest-physical memory as a vCPU sees it: one address space outside SMM, another inside (KVM:
// __kvm_memslots(kvm, as_id)). A gfn, a memslot, its reverse maps, write tracking and dirty log are
// each of one space; a shadow page's role says of which (KVM: kvm_memslots_for_spte_role).

#include "mmu_core/guest_memory.h"
#include "mmu_core/memslot.h"

namespace mmu {

struct AddressSpace {
  AddressSpace(Platform& platform, u32 number) : slots(platform, number), memory(platform, slots) {}
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  Memslots slots;
  GuestMemory memory;
};

}  // namespace mmu

#endif  // MMU_CORE_ADDRESS_SPACE_H_
