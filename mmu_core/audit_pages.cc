#include "mmu_core/audit.h"
#include "mmu_core/spte.h"

namespace mmu::audit {

void Auditor::check_page(const ShadowPage& p) {
  if (p.role.invalid()) report(Class::kCount, "an invalid page is on the active list", &p);
  if (p.generation != vm_.pages.generation)
    report(Class::kCount, "an obsolete page is on the active list", &p);
  if (p.doomed) report(Class::kLeak, "a page marked to be zapped was not", &p);
  if (p.root_count != held_among(held_count_, p))
    report(Class::kCount, "root count differs from a recount", &p);
  check_hash(p);
  check_quadrant(p);
  check_unsync(p);
  check_parents(p);
  if (p.has_gptes()) check_tracking(p);
  table_known_ = false;
  u32 used = 0;
  p.for_each_filled([&](unsigned i) {
    ++used;
    check_entry(p, i);
  });
  if (used != p.used) report(Class::kCount, "entry count differs from a recount", &p);
}

void Auditor::check_hash(const ShadowPage& p) {
  u32 here = 0, twins = 0, gone = 0;
  for (const ShadowPage* q = vm_.pages.hash.chain(p.gfn); q; q = q->hash_next) {
    here += q == &p;
    gone += q->role.invalid() || q->generation != vm_.pages.generation;
    twins += q->gfn == p.gfn && q->role == p.role && q->generation == p.generation;
  }
  if (here != 1) report(Class::kHash, "page is not in its hash bucket exactly once", &p);
  if (gone) report(Class::kHash, "a page that is not active is in the hash", &p);
  if (twins != 1) report(Class::kHash, "two pages have the same gfn and role", &p);
}

void Auditor::check_quadrant(const ShadowPage& p) {
  const PageRole role = p.role;
  const bool four = role.get<PageRole::GuestPaging>() == Paging::k32Bit && !role.direct();
  if (role.four_byte() != four) report(Class::kRole, "entry size does not fit the paging mode", &p);
  const unsigned quadrants = !four ? 1 : role.level() == 1 ? 2 : role.level() == 2 ? 4 : 0;
  if (role.quadrant() >= quadrants)
    report(Class::kRole, "a table of this level has no such quadrant", &p);
}

void Auditor::check_unsync(const ShadowPage& p) {
  if (p.unsync && (p.role.level() != 1 || p.role.direct()))
    report(Class::kUnsync, "only level-1 indirect pages may be unsync", &p);
  u32 n = 0;
  for (unsigned word = 0; word < kEntries / 64; ++word) {
    for (u64 left = p.unsync_bitmap[word]; left; left &= left - 1, ++n) {
      const unsigned i = word * 64 + static_cast<unsigned>(__builtin_ctzll(left));
      const u64 s = p.spt[i];
      if (!spte::is_present(s) || spte::is_leaf(s, p.role.level()))
        report(Class::kUnsync, "an entry that links nothing has an unsync child", &p, i);
    }
  }
  if (n != p.unsync_children) report(Class::kUnsync, "unsync children differ from a recount", &p);
}

void Auditor::check_tracking(const ShadowPage& p) {
  const Memslot* slot = space_of(vm_, p.role).slots.find(p.gfn);
  if (!slot) return report(Class::kRole, "shadowed table lies in no memslot", &p);
  u32 upper = 0, all = 0;
  for (const ShadowPage* q = vm_.pages.hash.chain(p.gfn); q; q = q->hash_next) {
    if (q->gfn != p.gfn || q->role.direct() || q->role.space() != p.role.space()) continue;
    ++all;
    upper += q->role.level() > 1;
  }
  if (slot->tracked(p.gfn) != upper)
    report(Class::kCount, "write tracking differs from a recount", &p);
  if (p.unsync && upper)
    report(Class::kUnsync, "what is unsync is also an upper table, whose writes are to be seen",
           &p);
  for (unsigned level = 2; level <= kRmapLevels; ++level)
    if (slot->large(p.gfn, level).disallow < all)
      report(Class::kCount, "a shadowed gfn does not forbid large mappings", &p);
}

void Auditor::check_entry(const ShadowPage& p, unsigned i) {
  const u64 s = p.spt[i];
  if (!s) return report(Class::kCount, "an entry counted as filled is empty", &p, i);
  // The hardware may walk what translates 32-bit addresses as a PAE table.
  const bool in_pae = p.role.get<PageRole::GuestPaging>() <= Paging::kPae;
  const bool reserved = vm_.own_reserved.violates(s, p.role.level()) ||
                        (in_pae && spte::is_present(s) && (s & kOwnReservedInPae));
  if (!spte::is_present(s)) {
    if (!spte::is_mmio(s) || !reserved)
      return report(Class::kReserved, "neither translation nor MMIO entry", &p, i);
    return check_mmio(p, i, s);
  }
  if (reserved) report(Class::kReserved, "entry has a reserved bit", &p, i);
  if (spte::is_leaf(s, p.role.level())) {
    ++leaves_;
    check_leaf(p, i, s);
  } else {
    check_link(p, i);
  }
}

}  // namespace mmu::audit
