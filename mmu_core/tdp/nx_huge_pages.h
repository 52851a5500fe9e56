#ifndef MMU_CORE_TDP_NX_HUGE_PAGES_H_
#define MMU_CORE_TDP_NX_HUGE_PAGES_H_

// Mitigation of CVE-2018-12207: no large page may be executed. One that is fetched from becomes a
// table of small pages, which is given back after a while (KVM: disallowed_hugepage_adjust,
// kvm_recover_nx_huge_pages).

#include "mmu_core/state.h"
#include "mmu_core/tdp/table.h"

namespace mmu::tdp {

// Is the option on, and can the entries say it?
inline bool nx_huge_pages(const VmState& vm) {
  const Format& f = vm.tdp.format;
  return vm.config.options.nx_huge_pages && (f.ept || f.no_exec);
}
// Takes down up to `most` tables that were made for execution; how many were.
u64 recover_nx_huge_pages(VmState& vm, u64 most);

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_NX_HUGE_PAGES_H_
