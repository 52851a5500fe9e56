#ifndef MMU_CORE_CPU_H_
#define MMU_CORE_CPU_H_

// A vCPU's registers and what follows from them for a guest walk.

#include "mmu_core/mmu.h"
#include "mmu_core/paging_mode.h"
#include "mmu_core/reserved_bits.h"
#include "mmu_core/role.h"
#include "mmu_core/x86.h"

namespace mmu {

struct CpuRegisters {
  u64 cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
  u64 pdpte[4] = {};  // PAE paging: as latched (pdptes.h)
  u32 pkru = 0;
  u8 cpl = 0;
  bool ac = false;
  bool smm = false;  // in SMM: memory is address space 1

  friend bool operator==(const CpuRegisters&, const CpuRegisters&) = default;
};

// Recomputed whenever a register that it depends on changes (KVM: the cpu_role and the permission
// bitmap).
struct WalkContext {
  const PagingMode* mode = &kNoPaging;
  bool pse = false;  // 32-bit paging: PS counts
  bool nx = false, wp = true, smep = false, smap = false, pke = false;
  bool reports_fetch = false;  // error code bit I: SMEP, or PAE and NXE
  ReservedBits reserved;       // of guest entries
  u64 pdpte_reserved = 0;
  bool smm = false;  // which address space is walked

  friend bool operator==(const WalkContext&, const WalkContext&) = default;
  // Does an entry without reserved bits end the walk (KVM: FNAME(is_last_gpte))?
  bool maps_page(u64 entry, unsigned level) const {
    return level == 1 || ((entry & pte::kPs) && (mode->entry_bytes == 8 || pse));
  }
};
WalkContext make_walk_context(const Capabilities& caps, const CpuRegisters& regs);

// The role bits that all shadow pages of this context share; level, access, quadrant are the
// caller's, and direct is for all but the paging mode none.
PageRole base_role(const WalkContext& context);

// What kind of access is asked for. `user`: CPL 3 and not implicit.
struct AccessRequest {
  bool write = false, fetch = false, user = false, implicit = false;
};

// Checks rights after a complete walk (KVM: permission_fault). `access`: acc:: bits of the whole
// path; `pkey` of the leaf. Returns 0 if permitted, else the error code's P (and PK) bits; the W,
// U, I bits are request_code()'s.
u32 permission_fault(const WalkContext& context, const CpuRegisters& regs, u8 access, u8 pkey,
                     AccessRequest request);
// The W, U and I bits that any #PF of this request reports.
u32 request_code(const WalkContext& context, AccessRequest request);

}  // namespace mmu

#endif  // MMU_CORE_CPU_H_
