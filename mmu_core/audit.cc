#include "mmu_core/audit.h"

#include "mmu_core/tdp/audit.h"

namespace mmu {
namespace audit {

void Auditor::run() {
  note_held_roots();
  check_active_list();
  if (leaves_ != vm_.rmap_refs) report(Class::kRmap, "reverse maps hold refs that no entry has");
  if (vm_.pages.condemned) report(Class::kLeak, "zapped pages were not freed");
  if (vm_.flush_owed) report(Class::kNotifier, "a flush is owed and was not issued");
  check_invalid_roots();
  for (const AddressSpace& space : vm_.spaces)
    if (space.slots.active().logged != space.slots.active().count_logged())
      report(Class::kCount, "logged memslots differ from a recount");
  for (const VcpuState& v : vm_.vcpu) check_vcpu(v);
  if (vm_.tdp.on) tdp::Auditor(vm_, sink_).run();
}

void Auditor::report(Class cls, const char* what, const ShadowPage* page, unsigned index) {
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

void Auditor::note_held_roots() {
  const auto note = [this](const Root& r) {
    r.for_each_page([this](const ShadowPage& p) { held_[held_count_++] = &p; });
  };
  for (const VcpuState& v : vm_.vcpu) {
    note(v.root);
    for (const Root& r : v.previous) note(r);
  }
}

// How many of the first `count` held pages are this one.
u32 Auditor::held_among(u32 count, const ShadowPage& page) const {
  u32 n = 0;
  for (u32 i = 0; i < count; ++i) n += held_[i] == &page;
  return n;
}

void Auditor::check_active_list() {
  u32 used = 0, indirect = 0;
  const ShadowPage* newer = nullptr;
  for (const ShadowPage* p = vm_.pages.newest; p; newer = p, p = p->next) {
    ++used;
    indirect += p->has_gptes();
    if (p->prev != newer) report(Class::kCount, "the active list differs from end to end", p);
    check_page(*p);
  }
  if (vm_.pages.oldest != newer) report(Class::kCount, "the oldest page is not the last", newer);
  if (used != vm_.pages.used || indirect != vm_.pages.indirect)
    report(Class::kCount, "page counts differ from a recount");
  // A quota that is lowered cannot take roots away, which may be that many.
  const u32 roots = vm_.config.vcpus * (Root::kPages + kPreviousRoots);
  if (used > vm_.config.quota && used > roots)
    report(Class::kCount, "more pages are in use than the quota allows");
}

void Auditor::check_invalid_roots() {
  u32 n = 0;
  for (u32 i = 0; i < held_count_; ++i) {
    const ShadowPage& p = *held_[i];
    if (!p.role.invalid() || held_among(i, p)) continue;
    ++n;
    if (p.used) report(Class::kCount, "an invalid root has entries", &p);
  }
  if (n != vm_.pages.invalid_roots) report(Class::kCount, "invalid roots differ from a recount");
}

}  // namespace audit

void Vm::audit(AuditSink& sink) const { audit::Auditor(*state_, sink).run(); }

}  // namespace mmu
