#include "mmu_core/tdp/audit.h"
#include "mmu_core/tdp/nx_huge_pages.h"
#include "mmu_core/tdp/pml.h"

namespace mmu::tdp {

// As memslots have it.
Gfn Auditor::gfn_of(Ref ref) const { return Gfn{ref.gfn().raw & ~root_->gfn_bits}; }

void Auditor::check_mmio(Ref ref, u64 e) {
  const Memslots& slots = vm_.spaces[root_->key.space].slots;
  const u64 generation = slots.generation();
  const bool current = mmio_generation(e) == (generation & kMmioGenMask);
  if (ref.level() != 1) report(Class::kRole, "MMIO entry above level 1", ref);
  if (mmio_gfn(format_, e) != gfn_of(ref))
    report(Class::kContent, "MMIO entry names another gfn than it stands for", ref);
  if (current && !(generation & kGenerationInProgress) && slots.find(gfn_of(ref)))
    report(Class::kRmap, "MMIO entry of this generation stands for memory", ref);
  // To the hardware it must be an error, not a translation.
  if (!format_.ept && !format_.reserved.violates(e, 1))
    report(Class::kReserved, "MMIO entry is a translation", ref);
}

void Auditor::check_leaf(Ref ref, u64 e) {
  const Memslot* const slot = vm_.spaces[root_->key.space].slots.find(gfn_of(ref));
  if (!slot) return report(Class::kRmap, "leaf maps a gfn without a memslot", ref);
  if (slot->invalid) report(Class::kRmap, "leaf maps a memslot that is going", ref);
  if (!slot->contains(gfn_of(ref) + (ref.pages() - 1)))
    report(Class::kRmap, "large leaf reaches beyond its memslot", ref);
  if (vm_.config.shared_bit && root_->key.space == 0) check_kind(ref);
  check_bits(ref, e);
  if (is_mirror(vm_.config, root_->key)) check_mirrored(ref, e);
  check_frame(ref, e, *slot);
  if (is_writable(format_, e)) check_writable(ref, e, *slot);
  if (e & format_.mmu_writable) check_tracked(ref, *slot);
}

// A module maps small pages, with all rights.
void Auditor::check_mirrored(Ref ref, u64 e) {
  ++external_leaves_;
  if (ref.level() != 1) report(Class::kRole, "large leaf of a module", ref);
  if (!permits(format_, e, true, true))
    report(Class::kContent, "leaf of a module that lacks a right", ref);
}

// Not even what may become writable without more ado (P01).
void Auditor::check_tracked(Ref ref, const Memslot& slot) {
  if (slot.any_watched(gfn_of(ref), ref.pages()))
    report(Class::kWritable, "writable leaf over a page that others track", ref);
}

// All that a leaf maps is private if its root is, and nothing otherwise.
void Auditor::check_kind(Ref ref) {
  const PrivateRanges& ranges = vm_.tdp.private_ranges;
  if (!ranges.uniform(gfn_of(ref), ref.pages()) ||
      ranges.contains(gfn_of(ref)) != root_->key.is_private)
    report(Class::kRole, "leaf maps private memory as shared, or the reverse", ref);
}

void Auditor::check_bits(Ref ref, u64 e) {
  const bool writable = is_writable(format_, e);
  const bool mmu = e & format_.mmu_writable, host = e & format_.host_writable;
  if ((writable && !mmu) || (mmu && !host))
    report(Class::kWritable, "the software bits of a leaf contradict its W", ref);
  if ((e & format_.leaf) != format_.leaf)
    report(Class::kContent, "leaf lacks what every leaf has", ref);
  if (!in_hardware(format_, e)) {
    if (format_.ad) report(Class::kRole, "leaf is hidden although the hardware sets A", ref);
    if (!(SavedRx::get(e) & 1)) report(Class::kContent, "hidden leaf has lost its rights", ref);
  } else if (format_.ept && SavedRx::get(e)) {
    report(Class::kRole, "leaf has rights saved that it has", ref);
  } else if (!(e & format_.read)) {
    report(Class::kContent, "leaf that nobody may read", ref);
  }
  if (ref.level() > 1 && nx_huge_pages(vm_) && in_hardware(format_, e) && is_executable(format_, e))
    report(Class::kWritable, "large leaf may be executed", ref);
}

void Auditor::check_frame(Ref ref, u64 e, const Memslot& slot) {
  const Notifier& n = vm_.notifier;
  const Hva hva = slot.hva_of(gfn_of(ref));
  if (n.in_progress && hva < n.end && hva + ref.pages() * kPageSize > n.start)
    return report(Class::kNotifier, "leaf inside a range that is being invalidated", ref);
  const FrameLookup f = vm_.platform.lookup_frame(hva, false);
  if (f.kind != FrameLookup::Kind::kFrame || f.pfn != pfn_of(e))
    return report(Class::kNotifier, "leaf maps a frame that does not back its gfn", ref);
  if ((e & format_.host_writable) && !f.writable)
    report(Class::kNotifier, "writable leaf over a frame that the host lets be read only", ref);
  if (ref.level() > 1 && f.host_level < ref.level())
    report(Class::kNotifier, "large leaf over smaller host pages", ref);
}

void Auditor::check_writable(Ref ref, u64 e, const Memslot& slot) {
  if (slot.read_only) report(Class::kWritable, "writable leaf in a read-only slot", ref);
  if (ref.level() > 1 && slot.large(gfn_of(ref), ref.level()).disallow)
    report(Class::kWritable, "large leaf where none may be", ref);
  if (slot.log_dirty && !is_logged(ref, e, slot))
    report(Class::kDirty, "writable leaf whose page is not in the dirty log", ref);
}

// Whatever is written through the leaf from now on will be in the log, or is there.
bool Auditor::is_logged(Ref ref, u64 e, const Memslot& slot) const {
  if (ref.level() == 1 && pml::in_use(vm_) && !(e & format_.dirty)) return true;
  const u64 first = slot.index(gfn_of(ref), 1);
  bool all = true;
  for (u64 at = first; all && at < first + ref.pages() && at < slot.pages; ++at)
    all = slot.arrays.dirty[at / 64] & bit(at % 64);
  return all || (ref.level() == 1 && pml::holds(vm_, slot.space, gfn_of(ref)));
}

}  // namespace mmu::tdp
