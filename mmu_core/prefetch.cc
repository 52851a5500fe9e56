#include "mmu_core/prefetch.h"

#include "mmu_core/counters.h"
#include "mmu_core/entries.h"
#include "mmu_core/quadrant.h"
#include "mmu_core/sync.h"
#include "mmu_core/unsync.h"

namespace mmu {
namespace {

constexpr unsigned kGroup = 8;  // entries, naturally aligned

void prefetch_one(VcpuState& vcpu, ShadowPage& page, const GuestMemory::Page& table,
                  unsigned index) {
  VmState& vm = *vcpu.vm;
  AddressSpace& space = space_of(vcpu);
  const u64 gpte =
      table.read(quadrant::gpte_offset(page.role, index), quadrant::gpte_bytes(page.role));
  const sync::Entitlement e =
      sync::entitlement(vcpu.context, gpte, page.role.level(), page.role.access());
  if (!e.any) return;
  Memslot* slot = space.slots.find(e.gfn);
  // While writes are logged a speculative writable entry would make every neighbour dirty.
  if (!slot || slot->invalid || slot->log_dirty) return;
  const FrameLookup frame = vm.platform.lookup_frame(slot->hva_of(e.gfn), false);
  if (frame.kind != FrameLookup::Kind::kFrame) return;
  spte::LeafParts parts;
  parts.pfn = frame.pfn;
  parts.access = e.access;
  parts.pkey = e.pkey;
  parts.host_writable = frame.writable && !slot->read_only;
  u64 fresh = spte::make_leaf(parts);
  if (spte::is_writable(fresh) &&
      !unsync::try_to_make_writable(vm, *slot, e.gfn, unsync::Caller::kPrefetch))
    fresh = spte::without_write(fresh);
  page.info->seen[index] = gpte;
  entries::set_leaf(vcpu, {&page, index}, fresh, *slot, e.gfn, e.access);
  ++vm.stats.prefetches;
  count(vm, Event::kPrefetch, page);
}

}  // namespace

void prefetch(VcpuState& vcpu, ShadowPage& page, unsigned index) {
  VmState& vm = *vcpu.vm;
  if (!vm.config.options.prefetch || page.unsync || vm.notifier.in_progress) return;
  const GuestMemory::Page table = space_of(vcpu).memory.page(page.gfn);
  if (!table.there()) return;
  const unsigned first = index & ~(kGroup - 1);
  for (unsigned i = first; i < first + kGroup; ++i)
    if (i != index && !page.spt[i]) prefetch_one(vcpu, page, table, i);
}

}  // namespace mmu
