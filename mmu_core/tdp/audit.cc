#include "mmu_core/tdp/audit.h"

#include "mmu_core/tdp/roots.h"

namespace mmu::tdp {

void Auditor::run() {
  for (Table* root = vm_.tdp.roots; root; root = root->next) {
    root_ = root;
    check_root(*root);
    check_table(*root);
  }
  require(tables_ == vm_.tdp.tables, Class::kCount, "tables differ from a recount");
  require(external_leaves_ == vm_.tdp.external_leaves, Class::kCount,
          "a module's leaves differ from a recount");
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
      require(slot.large(Gfn{at}, level).mixed != vm_.tdp.private_ranges.uniform(Gfn{at}, pages),
              Class::kCount, "the note of private and shared memory differs from a recount");
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
  require(root.level == format_.levels && root.base == Gfn{} && !root.parent &&
              root.gfn_bits == gfn_bits,
          Class::kRole, "a root is none", &root);
  u32 twins = 0, refs = root.invalid && !root.to_be_emptied ? 0 : 1;
  for (const Table* other = vm_.tdp.roots; other; other = other->next)
    twins += !root.invalid && !other->invalid && other->key == root.key;
  require(twins <= 1, Class::kHash, "two valid roots are for the same", &root);
  for (const VcpuState& v : vm_.vcpu) refs += (v.tdp.root == &root) + (v.tdp.private_root == &root);
  require(root.refs == refs, Class::kCount, "root references differ from a recount", &root);
  require(!root.to_be_emptied, Class::kLeak, "an invalid root was not emptied", &root);
}

void Auditor::check_vcpu(const VcpuState& v) {
  for (unsigned kind = 0; kind < 2; ++kind) {
    const bool is_private = kind == 1;
    const Table* const loaded = v.tdp.root_of(is_private);
    if (!loaded) continue;
    bool listed = false;
    for (const Table* root = vm_.tdp.roots; root; root = root->next) listed |= root == loaded;
    if (require(listed, Class::kLeak, "a vCPU has a root that is gone"))
      require(!is_stale(v, is_private) || v.free_obsolete_roots, Class::kLeak,
              "a vCPU keeps a root that is not for it", loaded);
  }
}

void Auditor::check_table(Table& table) {
  if (format_.levels == 3 && table.level == 3 && !format_.ept) {
    // The hardware reads four entries.
    const unsigned fifth = first_filled(table, 4, kEntries);
    require(fifth == kEntries, Class::kReserved, "a PAE root has more than four entries", &table,
            fifth);
  }
  for (unsigned i = first_filled(table, 0, kEntries); i < kEntries;
       i = first_filled(table, i + 1, kEntries)) {
    const Ref ref{&table, i};
    if (const u64 e = ref.load()) check_entry(ref, e);
  }
}

void Auditor::check_entry(Ref ref, u64 e) {
  if (!require(!is_frozen(e), Class::kLeak, "an entry was left frozen", ref)) return;
  if (!require(!root_->invalid, Class::kLeak, "an invalid root is not empty", ref)) return;
  if (is_mmio(format_, e)) return check_mmio(ref, e);
  if (!require(is_present(e), Class::kReserved, "neither translation nor MMIO entry", ref)) return;
  require(!in_hardware(format_, e) || !format_.reserved.violates(e, ref.level()), Class::kReserved,
          "entry has a reserved bit", ref);
  if (is_leaf(e, ref.level())) return check_leaf(ref, e);
  check_link(ref, e);
}

void Auditor::check_link(Ref ref, u64 e) {
  Table* const child = ref.child();
  if (!require(child && child->hpa.raw == (e & kAddress), Class::kParent,
               "link leads to another table than the core thinks", ref))
    return;
  require(vm_.platform.descriptor_of(child->hpa) == child, Class::kParent,
          "the table that a link leads to is another descriptor's", ref);
  const u64 link = make_table(format_, child->hpa, ref.level());
  require(e == link || (e | format_.accessed) == link, Class::kRole,
          "link does not grant everything", ref);
  const bool hangs_here = child->parent == ref.table && child->parent_index == ref.index;
  if (!require(hangs_here, Class::kParent, "child has another parent", ref)) return;
  const bool same_gfns =
      child->level == ref.level() - 1 && child->base == ref.gfn() && child->key == ref.table->key;
  if (!require(same_gfns, Class::kRole, "child is for other gfns than its link", ref)) return;
  require((child->external != Hpa{}) == is_mirror(vm_.config, child->key), Class::kRole,
          "a table that a mirror has, and no other, for its module", ref);
  ++tables_;
  check_table(*child);
}

}  // namespace mmu::tdp
