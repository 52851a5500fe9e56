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
  require(ref.level() == 1, Class::kRole, "MMIO entry above level 1", ref);
  require(mmio_gfn(format_, e) == gfn_of(ref), Class::kContent,
          "MMIO entry names another gfn than it stands for", ref);
  require(!current || (generation & kGenerationInProgress) || !slots.find(gfn_of(ref)),
          Class::kRmap, "MMIO entry of this generation stands for memory", ref);
  // To the hardware it must be an error, not a translation.
  require(format_.ept || format_.reserved.violates(e, 1), Class::kReserved,
          "MMIO entry is a translation", ref);
}

void Auditor::check_leaf(Ref ref, u64 e) {
  const Memslot* const slot = vm_.spaces[root_->key.space].slots.find(gfn_of(ref));
  if (!require(slot, Class::kRmap, "leaf maps a gfn without a memslot", ref)) return;
  require(!slot->invalid, Class::kRmap, "leaf maps a memslot that is going", ref);
  require(slot->contains(gfn_of(ref) + (ref.pages() - 1)), Class::kRmap,
          "large leaf reaches beyond its memslot", ref);
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
  require(ref.level() == 1, Class::kRole, "large leaf of a module", ref);
  require(permits(format_, e, true, true), Class::kContent, "leaf of a module that lacks a right",
          ref);
}

// Not even what may become writable without more ado (P01).
void Auditor::check_tracked(Ref ref, const Memslot& slot) {
  require(!slot.any_watched(gfn_of(ref), ref.pages()), Class::kWritable,
          "writable leaf over a page that others track", ref);
}

// All that a leaf maps is private if its root is, and nothing otherwise.
void Auditor::check_kind(Ref ref) {
  const PrivateRanges& ranges = vm_.tdp.private_ranges;
  require(ranges.uniform(gfn_of(ref), ref.pages()) &&
              ranges.contains(gfn_of(ref)) == root_->key.is_private,
          Class::kRole, "leaf maps private memory as shared, or the reverse", ref);
}

void Auditor::check_bits(Ref ref, u64 e) {
  const bool writable = is_writable(format_, e);
  const bool mmu = e & format_.mmu_writable, host = e & format_.host_writable;
  require((!writable || mmu) && (!mmu || host), Class::kWritable,
          "the software bits of a leaf contradict its W", ref);
  require((e & format_.leaf) == format_.leaf, Class::kContent, "leaf lacks what every leaf has",
          ref);
  if (!in_hardware(format_, e)) {
    require(!format_.ad, Class::kRole, "leaf is hidden although the hardware sets A", ref);
    require(SavedRx::get(e) & 1, Class::kContent, "hidden leaf has lost its rights", ref);
    return;
  }
  if (require(!format_.ept || !SavedRx::get(e), Class::kRole, "leaf has rights saved that it has",
              ref))
    require(e & format_.read, Class::kContent, "leaf that nobody may read", ref);
  require(ref.level() == 1 || !nx_huge_pages(vm_) || !is_executable(format_, e), Class::kWritable,
          "large leaf may be executed", ref);
}

void Auditor::check_frame(Ref ref, u64 e, const Memslot& slot) {
  const Notifier& n = vm_.notifier;
  const Hva hva = slot.hva_of(gfn_of(ref));
  const bool outside = !n.in_progress || hva >= n.end || hva + ref.pages() * kPageSize <= n.start;
  if (!require(outside, Class::kNotifier, "leaf inside a range that is being invalidated", ref))
    return;
  const FrameLookup f = vm_.platform.lookup_frame(hva, false);
  const bool backs = f.kind == FrameLookup::Kind::kFrame && f.pfn == pfn_of(e);
  if (!require(backs, Class::kNotifier, "leaf maps a frame that does not back its gfn", ref))
    return;
  require(!(e & format_.host_writable) || f.writable, Class::kNotifier,
          "writable leaf over a frame that the host lets be read only", ref);
  require(ref.level() == 1 || f.host_level >= ref.level(), Class::kNotifier,
          "large leaf over smaller host pages", ref);
}

void Auditor::check_writable(Ref ref, u64 e, const Memslot& slot) {
  require(!slot.read_only, Class::kWritable, "writable leaf in a read-only slot", ref);
  require(ref.level() == 1 || !slot.large(gfn_of(ref), ref.level()).disallow, Class::kWritable,
          "large leaf where none may be", ref);
  require(!slot.log_dirty || is_logged(ref, e, slot), Class::kDirty,
          "writable leaf whose page is not in the dirty log", ref);
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
