#include "mmu_core/audit.h"
#include "mmu_core/guest_walker.h"
#include "mmu_core/quadrant.h"
#include "mmu_core/rmap.h"
#include "mmu_core/spte.h"

namespace mmu::audit {

u32 occurrences(const RmapHead& head, SpteRef ref) {
  u32 n = 0;
  chain::for_each(head, [&](SpteRef r) {
    n += r == ref;
    return true;
  });
  return n;
}

Gfn gfn_by_guest(const ShadowPage& p, unsigned i, u64 gpte) {
  return quadrant::part_of_large(p.role, i, leaf_gfn(gpte, p.role.level(), p.role.four_byte()));
}

void Auditor::check_parents(const ShadowPage& p) {
  chain::for_each(p.parents, [&](SpteRef ref) {
    const u64 s = ref.page->spt[ref.index];
    if (!spte::is_present(s) || spte::is_leaf(s, ref.page->role.level()) ||
        ref.page->child(ref.index) != &p)
      report(Class::kParent, "parent chain names an entry that does not link here", &p);
    return true;
  });
}

void Auditor::check_link(const ShadowPage& p, unsigned i) {
  const ShadowPage* c = p.child(i);
  if (p.spt[i] != (spte::make_nonleaf(c->hpa) | (p.spt[i] & pte::kA)))
    report(Class::kParent, "link does not lead to its child", &p, i);
  if (vm_.platform.descriptor_of(Hpa{p.spt[i] & pte::kAddress}) != c)
    report(Class::kParent, "the table that a link leads to is another page's", &p, i);
  if (occurrences(c->parents, {const_cast<ShadowPage*>(&p), i}) != 1)
    report(Class::kParent, "link is not in its child's parent chain exactly once", &p, i);
  if ((c->unsync || c->unsync_children) && !(p.unsync_bitmap[i / 64] & bit(i % 64)))
    report(Class::kUnsync, "a parent does not know of an unsync child", &p, i);
  if (c->role.level() != p.role.level() - 1 || c->role.invalid())
    report(Class::kRole, "child has the wrong level or is invalid", &p, i);
  if (p.has_gptes()) {
    check_link_content(p, i, *c);
  } else if (!c->role.direct() || c->gfn != p.direct_gfn(i) ||
             c->role.access() != p.role.access()) {
    report(Class::kRole, "direct child is of another range or other rights", &p, i);
  }
}

// What the guest's entry implied when the link was made; later host edits are not the core's to
// see.
void Auditor::check_link_content(const ShadowPage& p, unsigned i, const ShadowPage& c) {
  const u64 gpte = p.info->seen[i];
  const bool ps_counts = !p.role.four_byte() || p.role.get<PageRole::Pse>();
  const bool large = p.role.level() > 1 && (gpte & pte::kPs) && ps_counts;
  if (!(gpte & pte::kP))
    return report(Class::kRole, "link made from an entry that was not present", &p, i);
  if (c.role.direct() != large)
    return report(Class::kRole, "child is direct where the guest has a table, or the reverse", &p,
                  i);
  const u8 allowed = p.role.access() & entry_access(gpte, p.role.get<PageRole::Nx>());
  if (!large) {
    if (c.gfn != Gfn{(gpte & pte::kAddress) >> 12})
      report(Class::kRole, "child shadows another frame", &p, i);
    if (c.role.quadrant() != (p.role.four_byte() ? quadrant::of_child(i) : 0))
      report(Class::kRole, "child shadows another quadrant", &p, i);
    if (c.role.access() != allowed)
      report(Class::kRole, "child's role has other rights than the path grants", &p, i);
  } else {
    if (c.gfn != gfn_by_guest(p, i, gpte))
      report(Class::kRole, "direct child covers another frame", &p, i);
    check_rights(p, i, c.role.access(), allowed);
  }
}

// `has` is what an entry (or a direct child) grants, `allowed` what the guest's path grants.
void Auditor::check_rights(const ShadowPage& p, unsigned i, u8 has, u8 allowed) {
  const bool trick = !p.role.get<PageRole::Wp>() && (has & acc::kW) && !(has & acc::kU);
  if (trick) allowed |= acc::kW;
  if (has & ~allowed)
    report(Class::kContent, "entry is wider than the guest's tables permit", &p, i);
  if (trick && p.role.get<PageRole::SmepNotWp>() && (has & acc::kX) && (allowed & acc::kU))
    report(Class::kContent, "a user page made supervisor may be executed in spite of SMEP", &p, i);
}

}  // namespace mmu::audit
