#ifndef TWINWALK_KVM_RUNNER_SUITE_SUITE_H_
#define TWINWALK_KVM_RUNNER_SUITE_SUITE_H_

// The rows of the conformance suite. What each is about stands in ../conform_cases.cc.

#include "kvm_runner/suite/paging.h"

namespace twinwalk::suite {

// rights.cc
Cases permissions_cpl0(const Paging& p);
Cases permissions_cpl3(const Paging& p);
Cases permissions_large(const Paging& p);
Cases smep(const Paging& p);
Cases smap(const Paging& p);
Cases pku(const Paging& p);
Cases nx_disabled(const Paging& p);

// tables.cc
Cases not_present(const Paging& p);
Cases reserved_bits(const Paging& p);
Cases accessed_dirty(const Paging& p);
Cases large_pages(const Paging& p);
Cases large_1g(const Paging& p);
Cases invalidation(const Paging& p);
Cases neighbours(const Paging& p);
Cases unsync_tables(const Paging& p);
Cases shared_tables(const Paging& p);
Cases global_pages(const Paging& p);
Cases pdptes(const Paging& p);

// linear.cc
Cases canonical(const Paging& p);
Cases wrapping(const Paging& p);
Cases linear_space(const Paging& p);
Cases page_crossing(const Paging& p);
Cases physical(const Paging& p);

// registers.cc
Cases control_registers(const Paging& p);
Cases mode_changes(const Paging& p);
Cases pcid(const Paging& p);
Cases invpcid_faults(const Paging& p);

// memory.cc
Cases memslots(const Paging& p);
Cases mmio(const Paging& p);
Cases notifier(const Paging& p);
Cases several_vcpus(const Paging& p);
Cases new_vcpus(const Paging& p);

// dirty.cc
Cases dirty_log(const Paging& p);
Cases dirty_clear(const Paging& p);
Cases dirty_ring(const Paging& p);

// host_pages.cc
Cases host_pages(const Paging& p);

// nested.cc
Cases nested_rights(const Paging& p);
Cases nested_reserved(const Paging& p);
Cases nested_accessed_dirty(const Paging& p);
Cases nested_tables(const Paging& p);
Cases nested_large(const Paging& p);
Cases nested_invalidation(const Paging& p);
Cases nested_smp(const Paging& p);
Cases nested_vmrun(const Paging& p);

}  // namespace twinwalk::suite

#endif  // TWINWALK_KVM_RUNNER_SUITE_SUITE_H_
