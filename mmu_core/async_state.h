#ifndef MMU_CORE_ASYNC_STATE_H_
#define MMU_CORE_ASYNC_STATE_H_

// What a vCPU waits for; a part of VcpuState. See async_fault.h.

#include "mmu_core/cpu.h"

namespace mmu {

struct AsyncFault {
  u64 token = 0;  // 0: nothing is waited for here
  u32 space = 0;
  Gfn gfn;
  // Shadow paging: the linear address, and by which tables it was translated.
  Gva gva;
  AccessRequest request;
  PageRole role;
  u64 cr3 = 0;
  Gpa gpa;  // two-dimensional
};

struct AsyncFaults {
  static constexpr u32 kMost = 4;
  AsyncFault waiting[kMost];
  u64 made = 0;  // tokens; none comes twice
};

}  // namespace mmu

#endif  // MMU_CORE_ASYNC_STATE_H_
