#include "mmu_core/audit.h"
#include "mmu_core/host_tables.h"
#include "mmu_core/shadow_walk.h"
#include "mmu_core/vcpu_setup.h"

namespace mmu::audit {
namespace {

// Lies there a table that can be shadowed?
bool visible(VmState& vm, const VcpuState& v, Gfn gfn) {
  const Memslot* slot = space_of(vm, v.role).slots.find(gfn);
  return slot && !slot->invalid;
}

// What a CR3 names.
Gfn table_of(const PagingMode& mode, u64 cr3) {
  return Gfn{(cr3 & (mode.legacy() ? cr3::kTable32 : cr3::kTable)) >> 12};
}

bool any_invalid(const Root& r) {
  bool any = false;
  r.for_each_page([&](const ShadowPage& p) { any |= p.role.invalid(); });
  return any;
}

}  // namespace

void Auditor::check_vcpu(const VcpuState& v) {
  check_context(v);
  for (const Root& r : v.previous) {
    if (r.kind == Root::Kind::kArray) report(Class::kCount, "an array is among the kept roots");
    check_held_root(v, r);
  }
  check_host_tables(v);
  check_held_root(v, v.root);
  check_root(v);
  check_mmio_cache(v);
}

void Auditor::check_context(const VcpuState& v) {
  if (!derived_from_ || derived_from_->regs != v.regs) {  // idle vCPUs have the same
    derived_ = make_walk_context(vm_.config.caps, v.regs);
    derived_role_ = root_role(derived_);
    derived_from_ = &v;
  }
  if (v.context != derived_ || v.role != derived_role_)
    report(Class::kRole, "a vCPU walks by other rules, or in another space, than it is to");
}

// The pages of the current root are those that the registers name.
void Auditor::check_root(const VcpuState& v) {
  const Root& r = v.root;
  const PagingMode& mode = *v.context.mode;
  switch (r.kind) {
    case Root::Kind::kNone:
      return;
    case Root::Kind::kArray:
      return check_array(v);
    case Root::Kind::kTree:
      if (r.cr3 != v.regs.cr3 || mode.legacy())
        return report(Class::kRole, "the root is that of another CR3 or mode", r.page[0]);
      return check_tree(v);
    case Root::Kind::kDummy:
      if (mode.kind == Paging::kNone || mode.kind == Paging::kPae)
        return report(Class::kRole, "a dummy stands for a CR3 that names no table");
      if (!v.free_obsolete_roots && visible(vm_, v, table_of(mode, v.regs.cr3)))
        report(Class::kRole, "a dummy stands for a table that is there");
  }
}

void Auditor::check_tree(const VcpuState& v) {
  const ShadowPage& p = *v.root.page[0];
  PageRole want = v.role;
  want.set<PageRole::Invalid>(p.role.invalid());
  if (p.role != want)
    report(Class::kRole, "the root is that of other rules or another address space", &p);
}

void Auditor::check_array(const VcpuState& v) {
  for (unsigned i = 0; i < Root::kPages; ++i) {
    if (v.root.page[i])
      check_array_page(v, i, *v.root.page[i]);
    else
      check_hole(v, i);
  }
}

void Auditor::check_array_page(const VcpuState& v, unsigned i, const ShadowPage& p) {
  PageRole want = v.role;
  Gfn gfn;
  switch (v.context.mode->kind) {
    case Paging::kNone:
      gfn = Gfn{i * pages_of_level(3)};
      break;
    case Paging::k32Bit:
      want.set<PageRole::Quadrant>(static_cast<u8>(i));
      gfn = table_of(k32Bit, v.regs.cr3);
      break;
    default:
      gfn = Gfn{(v.regs.pdpte[i] & pte::kAddress) >> 12};
      if (!(v.regs.pdpte[i] & pte::kP))
        report(Class::kRole, "an array has a page where no PDPTE is latched", &p);
  }
  want.set<PageRole::Invalid>(p.role.invalid());
  if (p.gfn != gfn || p.role != want)
    report(Class::kRole, "a page of the array is not what the registers name", &p);
}

// Place i of the array has no page.
void Auditor::check_hole(const VcpuState& v, unsigned i) {
  if (v.context.mode != &kPae) return report(Class::kRole, "a page of the array is missing");
  const u64 pdpte = v.regs.pdpte[i];
  if (!(pdpte & pte::kP) || (pdpte & v.context.pdpte_reserved)) return;
  if (!v.root.hole) report(Class::kRole, "a present PDPTE has no page, and nobody knows");
  if (!v.free_obsolete_roots && visible(vm_, v, Gfn{(pdpte & pte::kAddress) >> 12}))
    report(Class::kRole, "a PDPTE names a table that is there, and has no page");
}

// Current or kept. A kept one is found again by its CR3, so this must be that of its page.
void Auditor::check_held_root(const VcpuState& v, const Root& r) {
  if (r.kind == Root::Kind::kTree && r.page[0]->gfn != table_of(k4Level, r.cr3))
    report(Class::kRole, "a root is not the table that its CR3 names", r.page[0]);
  if (!v.free_obsolete_roots && any_invalid(r))
    report(Class::kLeak, "a root was zapped, and its vCPU was not asked to let it go");
}

void Auditor::check_host_tables(const VcpuState& v) {
  const Root& r = v.root;
  const unsigned levels = host_tables::levels(v);
  const bool array = r.kind == Root::Kind::kArray;
  const bool lifted = r.kind == Root::Kind::kTree && levels > v.context.mode->levels;
  bool any = array || lifted;
  for (const TablePage& t : v.host_table) any |= t.ptr != nullptr;
  if (!any) return;  // nothing there, nothing wanted
  for (unsigned level = 3; level <= kMaxLevels; ++level) {
    const u64* const table = v.host_table[level - 3].ptr;
    const auto at = [table](unsigned i) { return table ? table[i] : 0; };
    u64 want[Root::kPages] = {}, want_last = 0;
    if (array && level == 3) {
      for (unsigned i = 0; i < Root::kPages; ++i)
        want[i] = r.page[i] ? host_tables::array_entry(v, *r.page[i]) : 0;
    } else if (array && level <= levels) {
      want[0] = spte::make_nonleaf(v.host_table[level - 4].hpa);
    } else if (lifted && level == levels) {
      want[0] = want_last = spte::make_nonleaf(r.page[0]->hpa);
    }
    for (unsigned i = 0; i < Root::kPages; ++i)
      if (at(i) != want[i])
        report(Class::kParent, "a table of the host's leads elsewhere than to the root");
    if (at(kEntries - 1) != want_last)
      report(Class::kParent, "a table of the host's leads elsewhere than to the root");
  }
}

// What answers without a walk must be what a walk finds.
void Auditor::check_mmio_cache(const VcpuState& v) {
  const MmioCache& c = v.mmio;
  const u64 generation = space_of(vm_, v.role).slots.generation() & spte::kMmioGenMask;
  if (!c.valid || c.generation != generation || c.shape != vm_.shape || !v.root.valid()) return;
  bool found = false;
  shadow_walk(v.root, c.page, [&](SpteRef ref) {
    const u64 s = entries::load(ref);
    found = spte::is_mmio(s) && spte::mmio_gfn(s) == c.gfn && spte::access_of(s) == c.access;
    return true;
  });
  if (!found) report(Class::kRole, "a vCPU's MMIO cache knows of what no entry says");
}

}  // namespace mmu::audit
