#include "mmu_core/fetch.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/flush.h"
#include "mmu_core/notifier.h"
#include "mmu_core/page_cache.h"
#include "mmu_core/prefetch.h"
#include "mmu_core/quadrant.h"
#include "mmu_core/sync.h"
#include "mmu_core/tracking.h"
#include "mmu_core/unsync.h"

namespace mmu {
namespace {

// The page behind `ref`, which must have this gfn and this role. Another child, or a large leaf, is
// dropped: the same gfn alone does not make it the same page (KVM: kvm_mmu_get_child_sp;
// CVE-2026-53359 was this check).
ShadowPage* existing_child(VmState& vm, SpteRef ref, Gfn gfn, PageRole role) {
  const u64 s = entries::load(ref);
  if (!s) return nullptr;
  if (spte::is_present(s) && !spte::is_leaf(s, ref.page->role.level())) {
    ShadowPage* child = ref.page->child(ref.index);
    if (child->gfn == gfn && child->role == role) return child;
    count(vm, Event::kChildMismatch, *child);
  }
  entries::drop(vm, ref);
  return nullptr;
}

PageRole child_role(const ShadowPage& parent, bool direct, u8 access) {
  PageRole role = parent.role;
  role.set<PageRole::Level>(static_cast<u8>(parent.role.level() - 1));
  role.set<PageRole::Direct>(direct);
  role.set<PageRole::Access>(access);
  role.set<PageRole::Quadrant>(u8{0});
  if (direct) {  // a range of gfns knows nothing of the guest's entries
    role.set<PageRole::FourByte>(false);
    role.set<PageRole::Pse>(false);
  }
  return role;
}

// The installer keeps its place in the path between its steps.
class Installer {
 public:
  Installer(VcpuState& vcpu, Gva gva, const Fetch& fault)
      : vcpu_(vcpu),
        vm_(*vcpu.vm),
        space_(space_of(vcpu)),
        gva_(gva),
        fault_(fault),
        walk_(*fault.walk),
        page_(vcpu.root.page_for(gva)) {}

  FetchResult run() {
    while (page_->role.level() > walk_.level)
      if (!step_indirect()) return FetchResult::kGuestChanged;
    if (!walk_still_holds(space_.memory, vcpu_.context, walk_, walk_.level))
      return FetchResult::kGuestChanged;
    const unsigned goal = goal_level();
    while (page_->role.level() > goal) step_direct();
    vm_.platform.yield(YieldPoint::kBeforeInstall, vcpu_.id);
    return install();
  }

 private:
  SpteRef here() const { return {page_, shadow_index(gva_, page_->role.level())}; }

  bool step_indirect() {
    const unsigned level = page_->role.level();
    page_->write_flood = 0;
    const Gfn table = walk_.table[level - 2];
    PageRole role = child_role(*page_, false, walk_.access_above(level - 1));
    const SpteRef ref = here();
    if (role.four_byte()) role.set<PageRole::Quadrant>(quadrant::of_child(ref.index));
    ShadowPage* child = existing_child(vm_, ref, table, role);
    if (!child) {
      child = pages::get(vcpu_, table, role);
      // A link that goes from not present to present needs no flush by the guest, so nothing stale
      // may hang below it.
      if (child->unsync_children) sync::children(vcpu_, *child);
      if (!walk_still_holds(space_.memory, vcpu_.context, walk_, level)) return false;
      if (entries::load(ref)) vm_.platform.panic("link filled meanwhile");
      if (page_->has_gptes()) page_->info->seen[ref.index] = walk_.entry[level - 1];
      entries::link_child(vcpu_, ref, child);
    }
    page_ = child;
    return true;
  }

  unsigned goal_level() const {
    if (walk_.level == 1 || !fault_.slot || !vm_.config.options.large_pages) return 1;
    unsigned level = tracking::max_level(*fault_.slot, walk_.gfn);
    if (level > fault_.frame.host_level) level = fault_.frame.host_level;
    if (level > walk_.level) level = walk_.level;
    while (level > 1 && being_invalidated(level)) --level;
    return level;
  }

  // Does the host take back a part of what a leaf of this level would map?
  bool being_invalidated(unsigned level) const {
    const u64 pages = pages_of_level(level);
    const Hva start = fault_.slot->hva_of(Gfn{walk_.gfn.raw & ~(pages - 1)});
    return notifier::in_progress(vm_, start, start + pages * kPageSize);
  }

  // A large guest page over smaller host pages: direct pages carry on, under the rights of the
  // guest's leaf.
  void step_direct() {
    const unsigned level = page_->role.level();
    const SpteRef ref = here();
    const Gfn base{walk_.gfn.raw & ~(pages_of_level(level) - 1)};
    PageRole role = child_role(*page_, true, fault_.access);
    role.set<PageRole::Pkey>(key());
    ShadowPage* child = existing_child(vm_, ref, base, role);
    if (!child) {
      child = pages::get(vcpu_, base, role);
      if (page_->has_gptes()) page_->info->seen[ref.index] = walk_.entry[level - 1];
      entries::link_child(vcpu_, ref, child);
      ++vm_.stats.splits;
      count(vm_, Event::kSplit, *child);
    }
    page_ = child;
  }

  // As the hardware sees it.
  u8 key() const { return vcpu_.context.pke ? walk_.pkey : u8{0}; }

  FetchResult install() {
    if (page_->has_gptes()) page_->info->seen[here().index] = walk_.entry[walk_.level - 1];
    return fault_.slot ? install_leaf() : install_mmio();
  }

  FetchResult install_mmio() {
    const SpteRef ref = here();
    entries::drop(vm_, ref);  // whatever was there, with its reverse map
    if (!vcpu_.context.pke && spte::mmio_possible(walk_.gfn, vm_.config.caps.host_maxphyaddr)) {
      entries::set_mmio(
          vm_, ref,
          // Of the slots that were looked at: they may have changed since.
          spte::make_mmio(walk_.gfn, fault_.access, fault_.slot_generation & spte::kMmioGenMask));
      count(vm_, Event::kMmioMake, *page_);
    }
    return FetchResult::kMmio;
  }

  FetchResult install_leaf() {
    const SpteRef ref = here();
    const unsigned level = page_->role.level();
    const u64 mask = pages_of_level(level) - 1;
    const Gfn gfn{walk_.gfn.raw & ~mask};
    spte::LeafParts parts;
    parts.pfn = Pfn{fault_.frame.pfn.raw & ~mask};
    parts.level = level;
    parts.access = fault_.access;
    parts.pkey = key();
    parts.host_writable = fault_.frame.writable && !fault_.slot->read_only;
    u64 fresh = spte::make_leaf(parts);

    const u64 was = entries::load(ref);
    const bool same = spte::is_present(was) && spte::is_leaf(was, level) &&
                      spte::pfn_of(was) == parts.pfn && page_->leaf_gfn(ref.index) == gfn;
    if (spte::is_writable(fresh) && !(same && spte::is_writable(was)) &&
        !unsync::try_to_make_writable(
            vm_, *fault_.slot, gfn,
            fault_.ahead ? unsync::Caller::kPrefetch : unsync::Caller::kFault))
      fresh = spte::without_write(fresh);
    if (spte::is_writable(fresh)) GuestMemory::mark_dirty(*fault_.slot, gfn);
    count(vm_, spte::is_writable(fresh) ? Event::kLeaf : Event::kLeafReadOnly, *page_);
    if (same) {
      if (((was ^ fresh) & ~(pte::kA | pte::kD)) == 0) count(vm_, Event::kSpurious, *page_);
      if (page_->has_gptes()) page_->set_leaf(ref.index, gfn, fault_.access);
      entries::update_leaf(vm_, ref, fresh);
    } else {
      if (was) count(vm_, Event::kLeafReplaced, *page_);
      entries::drop(vm_, ref);
      entries::set_leaf(vcpu_, ref, fresh, *fault_.slot, gfn, fault_.access);
    }
    if (level == 1 && page_->has_gptes()) prefetch(vcpu_, *page_, ref.index);
    return fault_.write && !spte::is_writable(fresh) ? FetchResult::kWriteProtected
                                                     : FetchResult::kInstalled;
  }

  VcpuState& vcpu_;
  VmState& vm_;
  AddressSpace& space_;
  const Gva gva_;
  const Fetch& fault_;
  const GuestWalk& walk_;
  ShadowPage* page_;
};

}  // namespace

FetchResult fetch(VcpuState& vcpu, Gva gva, const Fetch& fault) {
  ++vcpu.vm->stats.fetches;
  return Installer(vcpu, gva, fault).run();
}

}  // namespace mmu
