#include "mmu_core/audit.h"
#include "mmu_core/guest_walker.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/quadrant.h"
#include "mmu_core/spte.h"

namespace mmu::audit {

void Auditor::check_mmio(const ShadowPage& p, unsigned i, u64 s) {
  const Memslots& slots = space_of(vm_, p.role).slots;
  const Gfn gfn = spte::mmio_gfn(s);
  const u64 generation = slots.generation();
  const bool current = spte::mmio_generation(s) == (generation & spte::kMmioGenMask);
  if (current && !(generation & kGenerationInProgress) && slots.find(gfn))
    report(Class::kRmap, "MMIO entry of this generation stands for memory", &p, i);
  // It has no room for a protection key.
  if (p.role.get<PageRole::Pke>())
    report(Class::kRole, "MMIO entry where protection keys count", &p, i);
  u64 gpte;
  u8 allowed = p.role.access();
  if (!p.has_gptes()) {
    if (gfn != p.direct_gfn(i))
      report(Class::kContent, "MMIO entry names another gfn than the page maps", &p, i);
  } else if (comparable(p, i, gpte)) {
    if (gfn != gfn_by_guest(p, i, gpte))
      report(Class::kContent, "MMIO entry names another gfn than the guest's entry", &p, i);
    allowed &= entry_access(gpte, p.role.get<PageRole::Nx>());
  }
  if (spte::access_of(s) & ~allowed)
    report(Class::kContent, "MMIO entry is wider than the guest's tables permit", &p, i);
}

void Auditor::check_leaf(const ShadowPage& p, unsigned i, u64 s) {
  const unsigned level = p.role.level();
  const Gfn gfn = p.leaf_gfn(i);
  Memslot* slot = space_of(vm_, p.role).slots.find(gfn);
  if (!slot) return report(Class::kRmap, "leaf maps a gfn without a memslot", &p, i);
  if (!slot->contains(gfn + (pages_of_level(level) - 1)))
    report(Class::kRmap, "large leaf reaches beyond its memslot", &p, i);
  const RmapHead* head = slot->rmap(gfn, level);
  if (!head || occurrences(*head, {const_cast<ShadowPage*>(&p), i}) != 1)
    report(Class::kRmap, "leaf is not in its gfn's reverse map exactly once", &p, i);
  check_frame(p, i, *slot, gfn, s);
  check_stored_rights(p, i, s);
  if (spte::is_writable(s)) check_writable(p, i, *slot, gfn);
  if (p.has_gptes()) check_content(p, i, s);
}

void Auditor::check_frame(const ShadowPage& p, unsigned i, const Memslot& slot, Gfn gfn, u64 s) {
  const Notifier& n = vm_.notifier;
  const Hva hva = slot.hva_of(gfn);
  if (n.in_progress && hva < n.end && hva + pages_of_level(p.role.level()) * kPageSize > n.start)
    return report(Class::kNotifier, "leaf inside a range that is being invalidated", &p, i);
  const FrameLookup f = vm_.platform.lookup_frame(hva, false);
  if (f.kind != FrameLookup::Kind::kFrame || f.pfn != spte::pfn_of(s))
    report(Class::kNotifier, "leaf maps a frame that does not back its gfn", &p, i);
  if (spte::is_writable(s) && !f.writable)
    report(Class::kNotifier, "writable leaf over a frame that the host lets be read only", &p, i);
  if (p.role.level() > 1 && f.host_level < p.role.level())
    report(Class::kNotifier, "large leaf over smaller host pages", &p, i);
}

// What the installer, or the last sync, granted stands beside the entry. Only W may have gone
// since.
void Auditor::check_stored_rights(const ShadowPage& p, unsigned i, u64 s) {
  const u8 has = spte::access_of(s), stored = p.leaf_access(i);
  if (has != stored && has != (stored & ~acc::kW))
    report(Class::kContent, "leaf grants other rights than were stored for it", &p, i);
  const u64 lets_write = spte::is_writable(s) ? spte::kHostWritable | spte::kMmuWritable : 0;
  if ((s & (spte::kMmuWritable | lets_write)) != lets_write)
    report(Class::kWritable, "the software bits of a leaf contradict its W", &p, i);
}

void Auditor::check_writable(const ShadowPage& p, unsigned i, const Memslot& slot, Gfn gfn) {
  if (slot.read_only) report(Class::kWritable, "writable leaf in a read-only slot", &p, i);
  if (slot.log_dirty) {
    const u64 at = slot.index(gfn, 1);
    if (p.role.level() > 1 || !(slot.arrays.dirty[at / 64] & bit(at % 64)))
      report(Class::kDirty, "writable leaf whose page is not in the dirty log", &p, i);
  }
  const u64 pages = pages_of_level(p.role.level());
  if (pages > 1) {
    if (slot.large(gfn, p.role.level()).disallow)
      report(Class::kWritable, "large leaf over a shadowed table", &p, i);
    return;
  }
  if (slot.tracked(gfn)) report(Class::kWritable, "writable leaf over a tracked table", &p, i);
  if (slot.watched(gfn))
    report(Class::kWritable, "writable leaf over a page that others track", &p, i);
  pages::for_each_indirect(vm_, slot.space, gfn, [&](ShadowPage& table) {
    if (!table.unsync) report(Class::kWritable, "writable leaf over a synced table", &p, i);
    return true;
  });
}

// The guest's entry behind spte i. False: it is not to be compared. An unsync page is behind it by
// right, and what the host edited is not the core's to see.
bool Auditor::comparable(const ShadowPage& p, unsigned i, u64& gpte) {
  if (p.unsync) return false;
  if (!table_known_) {
    table_ = space_of(vm_, p.role).memory.page(p.gfn);
    table_known_ = true;
  }
  if (!table_.there()) return false;
  gpte = table_.read(quadrant::gpte_offset(p.role, i), quadrant::gpte_bytes(p.role));
  return ((gpte ^ p.info->seen[i]) & ~(pte::kA | pte::kD)) == 0;
}

void Auditor::check_content(const ShadowPage& p, unsigned i, u64 s) {
  u64 now;
  if (!comparable(p, i, now)) return;
  if (gfn_by_guest(p, i, now) != p.leaf_gfn(i))
    report(Class::kContent, "leaf maps another frame than the guest's entry", &p, i);
  check_rights(p, i, spte::access_of(s),
               p.role.access() & entry_access(now, p.role.get<PageRole::Nx>()));
  if (spte::is_writable(s) && !((now | p.info->seen[i]) & pte::kD))
    report(Class::kContent, "writable leaf while the guest's dirty bit is clear", &p, i);
}

}  // namespace mmu::audit
