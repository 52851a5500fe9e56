#ifndef MMU_CORE_AUDIT_H_
#define MMU_CORE_AUDIT_H_

// The invariants of the core's state, checkable after any operation. One linear pass over what is
// in use.
//
//   audit.cc         lists, counts, what an operation leaves behind
//   audit_roots.cc   vCPUs: registers, roots, the host's tables
//   audit_pages.cc   a shadow page by itself, and what it costs its gfn
//   audit_links.cc   links to other shadow pages, and rights
//   audit_leaves.cc  translations and MMIO entries

#include "mmu_core/state.h"

namespace mmu::audit {

class Auditor {
 public:
  Auditor(VmState& vm, AuditSink& sink) : vm_(vm), sink_(sink) {}
  void run();

 private:
  using Class = AuditFinding::Class;
  void report(Class cls, const char* what, const ShadowPage* page = nullptr, unsigned index = 0);

  void note_held_roots();
  u32 held_among(u32 count, const ShadowPage& page) const;
  void check_active_list();
  void check_invalid_roots();

  void check_vcpu(const VcpuState& v);
  void check_context(const VcpuState& v);
  void check_root(const VcpuState& v);
  void check_held_root(const VcpuState& v, const Root& r);
  void check_tree(const VcpuState& v);
  void check_array(const VcpuState& v);
  void check_array_page(const VcpuState& v, unsigned i, const ShadowPage& p);
  void check_hole(const VcpuState& v, unsigned i);
  void check_host_tables(const VcpuState& v);
  void check_mmio_cache(const VcpuState& v);

  void check_page(const ShadowPage& p);
  void check_hash(const ShadowPage& p);
  void check_quadrant(const ShadowPage& p);
  void check_unsync(const ShadowPage& p);
  void check_tracking(const ShadowPage& p);
  void check_entry(const ShadowPage& p, unsigned i);

  void check_parents(const ShadowPage& p);
  void check_link(const ShadowPage& p, unsigned i);
  void check_link_content(const ShadowPage& p, unsigned i, const ShadowPage& c);
  void check_rights(const ShadowPage& p, unsigned i, u8 has, u8 allowed);

  void check_mmio(const ShadowPage& p, unsigned i, u64 s);
  void check_leaf(const ShadowPage& p, unsigned i, u64 s);
  void check_frame(const ShadowPage& p, unsigned i, const Memslot& slot, Gfn gfn, u64 s);
  void check_stored_rights(const ShadowPage& p, unsigned i, u64 s);
  void check_writable(const ShadowPage& p, unsigned i, const Memslot& slot, Gfn gfn);
  void check_content(const ShadowPage& p, unsigned i, u64 s);
  bool comparable(const ShadowPage& p, unsigned i, u64& gpte);

  VmState& vm_;
  AuditSink& sink_;
  u64 leaves_ = 0;
  // What follows from the registers of a vCPU.
  const VcpuState* derived_from_ = nullptr;
  WalkContext derived_;
  PageRole derived_role_;
  // The pages of all roots of all vCPUs, a page as often as it is held.
  const ShadowPage* held_[kMaxVcpus * (kPreviousRoots + 1) * Root::kPages];
  u32 held_count_ = 0;
  // The guest table behind the page that is being checked, looked up with its first entry.
  GuestMemory::Page table_;
  bool table_known_ = false;
};

// How often a chain names this entry.
u32 occurrences(const RmapHead& head, SpteRef ref);
// The first gfn that a guest entry which maps a page gives spte i.
Gfn gfn_by_guest(const ShadowPage& p, unsigned i, u64 gpte);

}  // namespace mmu::audit

#endif  // MMU_CORE_AUDIT_H_
