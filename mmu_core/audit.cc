// The invariants of the core's state, checkable after any operation. One linear pass over what is
// in use.

#include "mmu_core/entries.h"
#include "mmu_core/guest_walker.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/rmap.h"
#include "mmu_core/state.h"
#include "mmu_core/tracking.h"

namespace mmu {
namespace {

using Class = AuditFinding::Class;

class Auditor {
 public:
  Auditor(VmState& vm, AuditSink& sink) : vm_(vm), sink_(sink) {}

  void run() {
    u32 used = 0, indirect = 0;
    for (const ShadowPage* p = vm_.pages.newest; p; p = p->next) {
      ++used;
      indirect += p->has_gptes();
      check_page(*p);
    }
    if (used != vm_.pages.used || indirect != vm_.pages.indirect)
      report(Class::kCount, "page counts differ from a recount");
    if (leaves_ != vm_.rmap_refs) report(Class::kRmap, "reverse maps hold refs that no entry has");
    if (vm_.pages.condemned) report(Class::kLeak, "zapped pages were not freed");
    if (vm_.flush_owed) report(Class::kNotifier, "a flush is owed and was not issued");
    check_invalid_roots();
  }

 private:
  void report(Class cls, const char* what, const ShadowPage* page = nullptr, unsigned index = 0) {
    AuditFinding f;
    f.cls = cls;
    f.what = what;
    if (page) {
      f.gfn = page->gfn;
      f.table = page->hpa;
      f.index = index;
      f.spte = page->spt[index];
    }
    sink_.on_finding(f);
  }

  static u32 occurrences(const RmapHead& head, SpteRef ref) {
    u32 n = 0;
    chain::for_each(head, [&](SpteRef r) {
      n += r == ref;
      return true;
    });
    return n;
  }

  u32 roots_at(const ShadowPage& page) const {
    u32 n = 0;
    for (const VcpuState& v : vm_.vcpu) {
      n += v.root.page == &page;
      for (const Root& r : v.previous) n += r.page == &page;
    }
    return n;
  }

  void check_invalid_roots() {
    const ShadowPage* seen[kMaxVcpus * (kPreviousRoots + 1)];
    u32 n = 0;
    const auto note = [&](const Root& r) {
      if (!r.page || !r.page->role.invalid()) return;
      for (u32 i = 0; i < n; ++i)
        if (seen[i] == r.page) return;
      seen[n++] = r.page;
      if (r.page->used) report(Class::kCount, "an invalid root has entries", r.page);
    };
    for (const VcpuState& v : vm_.vcpu) {
      note(v.root);
      for (const Root& r : v.previous) note(r);
    }
    if (n != vm_.pages.invalid_roots) report(Class::kCount, "invalid roots differ from a recount");
  }

  void check_page(const ShadowPage& p) {
    if (p.role.invalid()) report(Class::kCount, "an invalid page is on the active list", &p);
    if (p.doomed) report(Class::kLeak, "a page marked to be zapped was not", &p);
    if (p.root_count != roots_at(p)) report(Class::kCount, "root count differs from a recount", &p);
    check_hash(p);
    check_unsync(p);
    chain::for_each(p.parents, [&](SpteRef ref) {
      const u64 s = ref.page->spt[ref.index];
      if (!spte::is_present(s) || spte::is_leaf(s, ref.page->role.level()) ||
          ref.page->child(ref.index) != &p)
        report(Class::kParent, "parent chain names an entry that does not link here", &p);
      return true;
    });
    if (p.has_gptes()) check_tracking(p);
    u32 used = 0;
    p.for_each_filled([&](unsigned i) {
      ++used;
      check_entry(p, i);
    });
    if (used != p.used) report(Class::kCount, "entry count differs from a recount", &p);
  }

  void check_hash(const ShadowPage& p) {
    u32 here = 0, twins = 0;
    for (const ShadowPage* q = vm_.pages.hash.chain(p.gfn); q; q = q->hash_next) {
      here += q == &p;
      twins += q->gfn == p.gfn && q->role == p.role && q->generation == p.generation;
    }
    if (here != 1) report(Class::kHash, "page is not in its hash bucket exactly once", &p);
    if (twins != 1) report(Class::kHash, "two pages have the same gfn and role", &p);
  }

  void check_unsync(const ShadowPage& p) {
    if (p.unsync && (p.role.level() != 1 || p.role.direct()))
      report(Class::kUnsync, "only level-1 indirect pages may be unsync", &p);
    u32 n = 0;
    for (const u64 w : p.unsync_bitmap) n += static_cast<u32>(__builtin_popcountll(w));
    if (n != p.unsync_children) report(Class::kUnsync, "unsync children differ from a recount", &p);
  }

  void check_tracking(const ShadowPage& p) {
    const Memslot* slot = vm_.slots.find(p.gfn);
    if (!slot) return report(Class::kRole, "shadowed table lies in no memslot", &p);
    u32 upper = 0, all = 0;
    for (const ShadowPage* q = vm_.pages.hash.chain(p.gfn); q; q = q->hash_next) {
      if (q->gfn != p.gfn || q->role.direct()) continue;
      ++all;
      upper += q->role.level() > 1;
    }
    if (slot->tracked(p.gfn) != upper)
      report(Class::kCount, "write tracking differs from a recount", &p);
    if (slot->large(p.gfn, 2).disallow < all)
      report(Class::kCount, "a shadowed gfn does not forbid large mappings", &p);
  }

  void check_entry(const ShadowPage& p, unsigned i) {
    const u64 s = p.spt[i];
    if (!s) return report(Class::kCount, "an entry counted as filled is empty", &p, i);
    const bool reserved = vm_.own_reserved.violates(s, p.role.level());
    if (!spte::is_present(s)) {
      if (!spte::is_mmio(s) || !reserved)
        report(Class::kReserved, "neither translation nor MMIO entry", &p, i);
      return;
    }
    if (reserved) report(Class::kReserved, "entry has a reserved bit", &p, i);
    if (spte::is_leaf(s, p.role.level())) {
      ++leaves_;
      check_leaf(p, i, s);
    } else {
      check_link(p, i);
    }
  }

  void check_link(const ShadowPage& p, unsigned i) {
    const ShadowPage* c = p.child(i);
    if (p.spt[i] != (spte::make_nonleaf(c->hpa) | (p.spt[i] & pte::kA)))
      report(Class::kParent, "link does not lead to its child", &p, i);
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
  void check_link_content(const ShadowPage& p, unsigned i, const ShadowPage& c) {
    const u64 gpte = p.info->seen[i];
    const bool large = p.role.level() > 1 && (gpte & pte::kPs);
    if (!(gpte & pte::kP))
      return report(Class::kRole, "link made from an entry that was not present", &p, i);
    if (c.role.direct() != large)
      return report(Class::kRole, "child is direct where the guest has a table, or the reverse", &p,
                    i);
    const u8 allowed = p.role.access() & entry_access(gpte, p.role.get<PageRole::Nx>());
    if (!large) {
      if (c.gfn != Gfn{(gpte & pte::kAddress) >> 12})
        report(Class::kRole, "child shadows another frame", &p, i);
      if (c.role.access() != allowed)
        report(Class::kRole, "child's role has other rights than the path grants", &p, i);
    } else {
      if (c.gfn != leaf_gfn(gpte, p.role.level()))
        report(Class::kRole, "direct child covers another frame", &p, i);
      check_rights(p, i, c.role.access(), allowed);
    }
  }

  // `has` is what a leaf (or a direct child) grants, `allowed` what the guest's path grants.
  void check_rights(const ShadowPage& p, unsigned i, u8 has, u8 allowed) {
    const bool trick = !p.role.get<PageRole::Wp>() && (has & acc::kW) && !(has & acc::kU);
    if (trick) allowed |= acc::kW;
    if (has & ~allowed)
      report(Class::kContent, "entry is wider than the guest's tables permit", &p, i);
    if (trick && p.role.get<PageRole::SmepNotWp>() && (has & acc::kX) && (allowed & acc::kU))
      report(Class::kContent, "a user page made supervisor may be executed in spite of SMEP", &p,
             i);
  }

  void check_leaf(const ShadowPage& p, unsigned i, u64 s) {
    const unsigned level = p.role.level();
    const Gfn gfn = p.leaf_gfn(i);
    Memslot* slot = vm_.slots.find(gfn);
    if (!slot) return report(Class::kRmap, "leaf maps a gfn without a memslot", &p, i);
    const RmapHead* head = slot->rmap(gfn, level);
    if (!head || occurrences(*head, {const_cast<ShadowPage*>(&p), i}) != 1)
      report(Class::kRmap, "leaf is not in its gfn's reverse map exactly once", &p, i);
    check_frame(p, i, *slot, gfn, s);
    if (spte::is_writable(s)) check_writable(p, i, *slot, gfn);
    if (p.has_gptes() && !p.unsync) check_content(p, i, s);
  }

  void check_frame(const ShadowPage& p, unsigned i, const Memslot& slot, Gfn gfn, u64 s) {
    const Notifier& n = vm_.notifier;
    const Hva hva = slot.hva_of(gfn);
    if (n.in_progress && hva < n.end && hva + pages_of_level(p.role.level()) * kPageSize > n.start)
      return report(Class::kNotifier, "leaf inside a range that is being invalidated", &p, i);
    const FrameLookup f = vm_.platform.lookup_frame(hva, false);
    if (f.kind != FrameLookup::Kind::kFrame || f.pfn != spte::pfn_of(s))
      report(Class::kNotifier, "leaf maps a frame that does not back its gfn", &p, i);
    if (p.role.level() > 1 && f.host_level < p.role.level())
      report(Class::kNotifier, "large leaf over smaller host pages", &p, i);
  }

  void check_writable(const ShadowPage& p, unsigned i, const Memslot& slot, Gfn gfn) {
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
    if (tracking::is_tracked(slot, gfn))
      report(Class::kWritable, "writable leaf over a tracked table", &p, i);
    pages::for_each_indirect(vm_, gfn, [&](ShadowPage& table) {
      if (!table.unsync) report(Class::kWritable, "writable leaf over a synced table", &p, i);
      return true;
    });
  }

  void check_content(const ShadowPage& p, unsigned i, u64 s) {
    u64 now = 0;
    if (vm_.memory.read(p.gfn.base() + i * 8, 8, now) != GuestMemory::Result::kOk) return;
    const u64 seen = p.info->seen[i];
    if ((now ^ seen) & ~(pte::kA | pte::kD))
      return;  // edited behind the core's back: not comparable
    const unsigned level = p.role.level();
    if (leaf_gfn(now, level) != p.leaf_gfn(i))
      report(Class::kContent, "leaf maps another frame than the guest's entry", &p, i);
    const u8 has = static_cast<u8>((s & pte::kW ? acc::kW : 0) | (s & pte::kU ? acc::kU : 0) |
                                   (s & pte::kXd ? 0 : acc::kX));
    check_rights(p, i, has, p.role.access() & entry_access(now, p.role.get<PageRole::Nx>()));
    if (spte::is_writable(s) && !((now | seen) & pte::kD))
      report(Class::kContent, "writable leaf while the guest's dirty bit is clear", &p, i);
  }

  VmState& vm_;
  AuditSink& sink_;
  u64 leaves_ = 0;
};

}  // namespace

void Vm::audit(AuditSink& sink) const { Auditor(*state_, sink).run(); }

}  // namespace mmu
