#ifndef MMU_CORE_TDP_AUDIT_H_
#define MMU_CORE_TDP_AUDIT_H_

// The invariants of the tables of the second dimension. One pass over all of them.

#include "mmu_core/state.h"

namespace mmu::tdp {

class Auditor {
 public:
  Auditor(VmState& vm, AuditSink& sink) : vm_(vm), format_(vm.tdp.format), sink_(sink) {}
  void run();

 private:
  using Class = AuditFinding::Class;
  // What must hold, of an entry, a table or all; `otherwise` says what is the matter if it does
  // not.
  bool require(bool holds, Class cls, const char* otherwise, const Table* table = nullptr,
               unsigned index = 0) {
    if (!holds) [[unlikely]]
      report(cls, otherwise, table, index);
    return holds;
  }
  bool require(bool holds, Class cls, const char* otherwise, Ref ref) {
    return require(holds, cls, otherwise, ref.table, ref.index);
  }
  void report(Class cls, const char* what, const Table* table, unsigned index);

  void check_mixed(const Memslot& slot);
  void check_root(const Table& root);
  void check_vcpu(const VcpuState& vcpu);
  void check_table(Table& table);
  void check_entry(Ref ref, u64 e);
  void check_link(Ref ref, u64 e);

  // audit_leaves.cc
  Gfn gfn_of(Ref ref) const;
  void check_kind(Ref ref);
  void check_mmio(Ref ref, u64 e);
  void check_leaf(Ref ref, u64 e);
  void check_bits(Ref ref, u64 e);
  void check_frame(Ref ref, u64 e, const Memslot& slot);
  void check_writable(Ref ref, u64 e, const Memslot& slot);
  void check_mirrored(Ref ref, u64 e);
  void check_tracked(Ref ref, const Memslot& slot);
  bool is_logged(Ref ref, u64 e, const Memslot& slot) const;

  VmState& vm_;
  const Format& format_;
  AuditSink& sink_;
  const Table* root_ = nullptr;  // of what is being checked
  u64 tables_ = 0;
  u64 external_leaves_ = 0;
};

}  // namespace mmu::tdp

#endif  // MMU_CORE_TDP_AUDIT_H_
