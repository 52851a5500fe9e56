#include "mmu_core/tdp/audit.h"

#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {

void Auditor::run() {
  for (Table* root = vm_.tdp.roots; root; root = root->next) {
    root_ = root;
    check_root(*root);
    check_table(*root);
  }
  if (tables_ != vm_.tdp.tables) report(Class::kCount, "tables differ from a recount");
  if (external_leaves_ != vm_.tdp.external_leaves)
    report(Class::kCount, "a module's leaves differ from a recount");
  for (const VcpuState& v : vm_.vcpu) check_vcpu(v);
  if (!vm_.config.shared_bit) return;
  for (const Memslot& slot : vm_.spaces[0].slots.active().slot)
    if (slot.used) check_mixed(slot);
}

// Of the large pages that the slot may hold.
void Auditor::check_mixed(const Memslot& slot) {
  for (unsigned level = 2; level <= kRmapLevels; ++level) {
    const u64 pages = pages_of_level(level);
    for (u64 at = (slot.base.raw + pages - 1) & ~(pages - 1); slot.contains(Gfn{at + pages - 1});
         at += pages)
      if (slot.large(Gfn{at}, level).mixed == vm_.tdp.private_ranges.uniform(Gfn{at}, pages))
        report(Class::kCount, "the note of private and shared memory differs from a recount");
  }
}

void Auditor::report(Class cls, const char* what, const Table* table, unsigned index) {
  AuditFinding f;
  f.cls = cls;
  f.what = what;
  if (table) {
    const Ref ref{const_cast<Table*>(table), index};
    f.gfn = ref.gfn();
    f.table = table->hpa;
    f.index = index;
    f.spte = ref.load();
  }
  sink_.on_finding(f);
}

void Auditor::check_root(const Table& root) {
  const u64 gfn_bits = root.key.is_private ? 0 : vm_.config.shared_bit >> 12;
  if (root.level != format_.levels || root.base != Gfn{} || root.parent ||
      root.gfn_bits != gfn_bits)
    report(Class::kRole, "a root is none", &root);
  u32 twins = 0, refs = root.invalid && !root.to_be_emptied ? 0 : 1;
  for (const Table* other = vm_.tdp.roots; other; other = other->next)
    twins += !root.invalid && !other->invalid && other->key == root.key;
  if (twins > 1) report(Class::kHash, "two valid roots are for the same", &root);
  for (const VcpuState& v : vm_.vcpu) refs += (v.tdp.root == &root) + (v.tdp.private_root == &root);
  if (root.refs != refs) report(Class::kCount, "root references differ from a recount", &root);
  if (root.to_be_emptied) report(Class::kLeak, "an invalid root was not emptied", &root);
}

void Auditor::check_vcpu(const VcpuState& v) {
  for (unsigned kind = 0; kind < 2; ++kind) {
    const bool is_private = kind == 1;
    const Table* const loaded = v.tdp.root_of(is_private);
    if (!loaded) continue;
    bool listed = false;
    for (const Table* root = vm_.tdp.roots; root; root = root->next) listed |= root == loaded;
    if (!listed) {
      report(Class::kLeak, "a vCPU has a root that is gone");
    } else if (is_stale(v, is_private) && !v.free_obsolete_roots) {
      report(Class::kLeak, "a vCPU keeps a root that is not for it", loaded);
    }
  }
}

void Auditor::check_table(Table& table) {
  if (format_.levels == 3 && table.level == 3 && !format_.ept) {
    // The hardware reads four entries.
    for (unsigned i = first_filled(table, 4, kEntries); i < kEntries;
         i = first_filled(table, i + 1, kEntries))
      report(Class::kReserved, "a PAE root has more than four entries", &table, i);
  }
  for (unsigned i = first_filled(table, 0, kEntries); i < kEntries;
       i = first_filled(table, i + 1, kEntries)) {
    const Ref ref{&table, i};
    if (const u64 e = ref.load()) check_entry(ref, e);
  }
}

void Auditor::check_entry(Ref ref, u64 e) {
  if (is_frozen(e)) return report(Class::kLeak, "an entry was left frozen", ref);
  if (root_->invalid) return report(Class::kLeak, "an invalid root is not empty", ref);
  if (is_mmio(format_, e)) return check_mmio(ref, e);
  if (!is_present(e)) return report(Class::kReserved, "neither translation nor MMIO entry", ref);
  if (in_hardware(format_, e) && format_.reserved.violates(e, ref.level()))
    report(Class::kReserved, "entry has a reserved bit", ref);
  if (is_leaf(e, ref.level())) return check_leaf(ref, e);
  check_link(ref, e);
}

void Auditor::check_link(Ref ref, u64 e) {
  Table* const child = ref.child();
  if (!child || child->hpa.raw != (e & kAddress))
    return report(Class::kParent, "link leads to another table than the core thinks", ref);
  if (vm_.platform.descriptor_of(child->hpa) != child)
    report(Class::kParent, "the table that a link leads to is another descriptor's", ref);
  if (e != make_table(format_, child->hpa, ref.level()) &&
      (e | format_.accessed) != make_table(format_, child->hpa, ref.level()))
    report(Class::kRole, "link does not grant everything", ref);
  if (child->parent != ref.table || child->parent_index != ref.index)
    return report(Class::kParent, "child has another parent", ref);
  if (child->level != ref.level() - 1 || child->base != ref.gfn() || child->key != ref.table->key)
    return report(Class::kRole, "child is for other gfns than its link", ref);
  if ((child->external != Hpa{}) != is_mirror(vm_.config, child->key))
    report(Class::kRole, "a table that a mirror has, and no other, for its module", ref);
  ++tables_;
  check_table(*child);
}

}  // namespace mmu::tdp
