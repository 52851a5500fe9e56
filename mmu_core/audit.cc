// The invariants of the core's state, checkable after any operation. One linear pass over what is
// in use.

#include "mmu_core/entries.h"
#include "mmu_core/guest_walker.h"
#include "mmu_core/host_tables.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/quadrant.h"
#include "mmu_core/rmap.h"
#include "mmu_core/state.h"
#include "mmu_core/tracking.h"
#include "mmu_core/vcpu_setup.h"

namespace mmu {
namespace {

using Class = AuditFinding::Class;

class Auditor {
 public:
  Auditor(VmState& vm, AuditSink& sink) : vm_(vm), sink_(sink) {}

  void run() {
    note_held_roots();
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
    for (const VcpuState& v : vm_.vcpu) {
      check_context(v);
      check_root(v);
    }
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

  void note_held_roots() {
    const auto note = [this](const Root& r) {
      r.for_each_page([this](const ShadowPage& p) { held_[held_count_++] = &p; });
    };
    for (const VcpuState& v : vm_.vcpu) {
      note(v.root);
      for (const Root& r : v.previous) note(r);
    }
  }

  // How many of the first `count` held pages are this one.
  u32 held_among(u32 count, const ShadowPage& page) const {
    u32 n = 0;
    for (u32 i = 0; i < count; ++i) n += held_[i] == &page;
    return n;
  }

  void check_invalid_roots() {
    u32 n = 0;
    for (u32 i = 0; i < held_count_; ++i) {
      const ShadowPage& p = *held_[i];
      if (!p.role.invalid() || held_among(i, p)) continue;
      ++n;
      if (p.used) report(Class::kCount, "an invalid root has entries", &p);
    }
    if (n != vm_.pages.invalid_roots) report(Class::kCount, "invalid roots differ from a recount");
  }

  void check_context(const VcpuState& v) {
    if (!derived_from_ || derived_from_->regs != v.regs) {  // idle vCPUs have the same
      derived_ = make_walk_context(vm_.config.caps, v.regs);
      derived_role_ = root_role(derived_);
      derived_from_ = &v;
    }
    if (v.context != derived_ || v.role != derived_role_)
      report(Class::kRole, "a vCPU walks by other rules, or in another space, than it is to");
  }

  // The pages of the current root are those that the registers name, and the host's tables lead to
  // them.
  void check_root(const VcpuState& v) {
    const Root& r = v.root;
    for (const Root& kept : v.previous)
      if (kept.kind == Root::Kind::kArray)
        report(Class::kCount, "an array is among the kept roots");
    check_host_tables(v);
    if (r.kind != Root::Kind::kArray) {
      if (r.kind == Root::Kind::kTree && (r.cr3 != v.regs.cr3 || v.context.mode->legacy()))
        report(Class::kRole, "the root is that of another CR3 or mode", r.page[0]);
      if (r.kind == Root::Kind::kTree && r.page[0]->role.space() != v.role.space())
        report(Class::kRole, "the root is that of another address space", r.page[0]);
      return;
    }
    for (unsigned i = 0; i < Root::kPages; ++i)
      if (r.page[i]) check_array_page(v, i, *r.page[i]);
  }

  void check_array_page(const VcpuState& v, unsigned i, const ShadowPage& p) {
    PageRole want = v.role;
    Gfn gfn;
    switch (v.context.mode->kind) {
      case Paging::kNone:
        gfn = Gfn{i * pages_of_level(3)};
        break;
      case Paging::k32Bit:
        want.set<PageRole::Quadrant>(static_cast<u8>(i));
        gfn = Gfn{(v.regs.cr3 & cr3::kTable32) >> 12};
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

  void check_host_tables(const VcpuState& v) {
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

  void check_page(const ShadowPage& p) {
    if (p.role.invalid()) report(Class::kCount, "an invalid page is on the active list", &p);
    if (p.doomed) report(Class::kLeak, "a page marked to be zapped was not", &p);
    if (p.root_count != held_among(held_count_, p))
      report(Class::kCount, "root count differs from a recount", &p);
    check_hash(p);
    check_quadrant(p);
    check_unsync(p);
    chain::for_each(p.parents, [&](SpteRef ref) {
      const u64 s = ref.page->spt[ref.index];
      if (!spte::is_present(s) || spte::is_leaf(s, ref.page->role.level()) ||
          ref.page->child(ref.index) != &p)
        report(Class::kParent, "parent chain names an entry that does not link here", &p);
      return true;
    });
    if (p.has_gptes()) check_tracking(p);
    table_known_ = false;
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

  void check_quadrant(const ShadowPage& p) {
    const PageRole role = p.role;
    const bool four = role.get<PageRole::GuestPaging>() == Paging::k32Bit && !role.direct();
    if (role.four_byte() != four)
      report(Class::kRole, "entry size does not fit the paging mode", &p);
    const unsigned quadrants = !four ? 1 : role.level() == 1 ? 2 : role.level() == 2 ? 4 : 0;
    if (role.quadrant() >= quadrants)
      report(Class::kRole, "a table of this level has no such quadrant", &p);
  }

  void check_unsync(const ShadowPage& p) {
    if (p.unsync && (p.role.level() != 1 || p.role.direct()))
      report(Class::kUnsync, "only level-1 indirect pages may be unsync", &p);
    u32 n = 0;
    for (const u64 w : p.unsync_bitmap)
      if (w) n += static_cast<u32>(__builtin_popcountll(w));
    if (n != p.unsync_children) report(Class::kUnsync, "unsync children differ from a recount", &p);
  }

  void check_tracking(const ShadowPage& p) {
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
    if (slot->large(p.gfn, 2).disallow < all)
      report(Class::kCount, "a shadowed gfn does not forbid large mappings", &p);
  }

  void check_entry(const ShadowPage& p, unsigned i) {
    const u64 s = p.spt[i];
    if (!s) return report(Class::kCount, "an entry counted as filled is empty", &p, i);
    // The hardware may walk what translates 32-bit addresses as a PAE table.
    const bool in_pae = p.role.get<PageRole::GuestPaging>() <= Paging::kPae;
    const bool reserved = vm_.own_reserved.violates(s, p.role.level()) ||
                          (in_pae && spte::is_present(s) && (s & kOwnReservedInPae));
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

  // The first gfn that a guest entry which maps a page gives spte i.
  static Gfn gfn_by_guest(const ShadowPage& p, unsigned i, u64 gpte) {
    return quadrant::part_of_large(p.role, i, leaf_gfn(gpte, p.role.level(), p.role.four_byte()));
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
    Memslot* slot = space_of(vm_, p.role).slots.find(gfn);
    if (!slot) return report(Class::kRmap, "leaf maps a gfn without a memslot", &p, i);
    const RmapHead* head = slot->rmap(gfn, level);
    if (!head || occurrences(*head, {const_cast<ShadowPage*>(&p), i}) != 1)
      report(Class::kRmap, "leaf is not in its gfn's reverse map exactly once", &p, i);
    check_frame(p, i, *slot, gfn, s);
    if (spte::is_writable(s)) check_writable(p, i, *slot, gfn);
    if (!p.has_gptes() && (granted(s) & ~p.role.access()))
      report(Class::kContent, "leaf of a direct page grants more than the page's role", &p, i);
    if (p.has_gptes() && !p.unsync) check_content(p, i, s);
  }

  static u8 granted(u64 s) {
    return static_cast<u8>((s & pte::kW ? acc::kW : 0) | (s & pte::kU ? acc::kU : 0) |
                           (s & pte::kXd ? 0 : acc::kX));
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
    pages::for_each_indirect(vm_, slot.space, gfn, [&](ShadowPage& table) {
      if (!table.unsync) report(Class::kWritable, "writable leaf over a synced table", &p, i);
      return true;
    });
  }

  void check_content(const ShadowPage& p, unsigned i, u64 s) {
    if (!table_known_) {
      table_ = space_of(vm_, p.role).memory.page(p.gfn);
      table_known_ = true;
    }
    if (!table_.there()) return;
    const u64 now = table_.read(quadrant::gpte_offset(p.role, i), quadrant::gpte_bytes(p.role));
    const u64 seen = p.info->seen[i];
    if ((now ^ seen) & ~(pte::kA | pte::kD))
      return;  // edited behind the core's back: not comparable
    if (gfn_by_guest(p, i, now) != p.leaf_gfn(i))
      report(Class::kContent, "leaf maps another frame than the guest's entry", &p, i);
    check_rights(p, i, granted(s), p.role.access() & entry_access(now, p.role.get<PageRole::Nx>()));
    if (spte::is_writable(s) && !((now | seen) & pte::kD))
      report(Class::kContent, "writable leaf while the guest's dirty bit is clear", &p, i);
  }

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
  // The guest table behind the page that is being checked, looked up with its first leaf.
  GuestMemory::Page table_;
  bool table_known_ = false;
};

}  // namespace

void Vm::audit(AuditSink& sink) const { Auditor(*state_, sink).run(); }

}  // namespace mmu
