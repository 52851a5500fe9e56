#include "mmu_core/tdp/map.h"

#include <cstring>

#include "mmu_core/tdp/change.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/tdp/dirty_ring.h"
#include "mmu_core/tdp/iterator.h"
#include "mmu_core/tdp/large.h"
#include "mmu_core/tdp/nx_huge_pages.h"
#include "mmu_core/tdp/pml.h"
#include "mmu_core/tdp/split.h"

namespace mmu::tdp {
namespace {

class Mapper {
 public:
  Mapper(VcpuState& vcpu, const Fault& fault)
      : vcpu_(vcpu),
        vm_(*vcpu.vm),
        format_(vm_.tdp.format),
        mirror_(is_mirror(vm_.config, vcpu.tdp.root_of(fault.is_private)->key)),
        fault_(fault),
        wanted_level_(wanted_level()),
        goal_(goal_level()),
        it_(*vcpu.tdp.root_of(fault.is_private), fault.gfn, fault.gfn),
        removal_(vm_) {}

  MapResult run() {
    MapResult result = MapResult::kRetry;
    for (; it_.valid(); it_.next()) {
      if (is_frozen(it_.entry())) {
        count(vm_, TdpEvent::kFrozenSeen, it_.level());
        break;
      }
      if (it_.level() == goal_ && stays_small()) --goal_;
      if (it_.level() == goal_) {
        vm_.platform.yield(YieldPoint::kBeforeInstall, vcpu_.id);
        result = install();
        break;
      }
      if (!is_table(it_.entry(), it_.level()) && !link()) break;
    }
    removal_.settle();
    return result;
  }

 private:
  unsigned wanted_level() const {
    if (!fault_.slot || mirror_) return 1;
    return largest_level(vm_, *fault_.slot, fault_.gfn, fault_.frame.host_level);
  }
  unsigned goal_level() const { return nx_huge_pages(vm_) && fault_.fetch ? 1 : wanted_level_; }

  // A table that was made so that its pages can be executed is not given up for a large page.
  bool stays_small() const {
    return goal_ > 1 && is_table(it_.entry(), it_.level()) && it_.ref().child()->for_execution;
  }

  // An empty table where there is none, or one that has what the large leaf had.
  bool link() {
    TableStore& store = vcpu_.tdp.store;
    const u64 was = it_.entry();
    Table* const child = store.take(vm_.platform, it_.level() - 1, mirror_);
    child->for_execution = goal_ < wanted_level_ && it_.level() <= wanted_level_;
    if (child->for_execution) count(vm_, TdpEvent::kNxSplit, it_.level());
    if (is_present(was)) fill_from_large(vm_, *child, was, it_.level());
    if (try_link(vm_, it_.ref(), was, child)) return true;
    if (is_present(was)) std::memset(child->entry, 0, kPageSize);
    store.give_back(vm_.platform, child);
    return false;
  }

  MapResult install() { return fault_.slot ? install_leaf() : install_mmio(); }

  MapResult install_mmio() {
    if (mirror_ || !mmio_possible(format_, fault_.gfn)) return MapResult::kMmio;
    const u64 was = it_.entry();
    const u64 now = make_mmio(format_, fault_.gfn, fault_.slot_generation & kMmioGenMask);
    if (was == now) return MapResult::kMmio;
    if (!try_change(vm_, it_.ref(), was, now, removal_)) return MapResult::kRetry;
    bump(vm_.stats.mmio_sptes);
    count(vm_, TdpEvent::kMmioMake, 1);
    return MapResult::kMmio;
  }

  u64 leaf() const {
    const Memslot& slot = *fault_.slot;
    LeafParts parts;
    parts.level = goal_;
    parts.pfn = Pfn{fault_.frame.pfn.raw & ~(pages_of_level(goal_) - 1)};
    parts.host_writable = fault_.frame.writable && !slot.read_only;
    parts.mmu_writable = parts.host_writable && !slot.watched(fault_.gfn);
    // Until a page of a slot that is logged is written its first write must be noticed, by the core
    // or by the hardware.
    const bool first_write_counts = slot.log_dirty && !fault_.write;
    parts.writable = parts.mmu_writable && (!first_write_counts || pml::in_use(vm_));
    parts.executable = goal_ == 1 || !nx_huge_pages(vm_);
    const u64 e = make_leaf(format_, parts);
    return first_write_counts ? e & ~format_.dirty : e;
  }

  MapResult install_leaf() {
    const u64 was = it_.entry();
    const unsigned level = it_.level();
    if (is_leaf(was, level) && permits(format_, was, fault_.write, fault_.fetch)) {
      count(vm_, TdpEvent::kSpurious, level);
      return MapResult::kSpurious;
    }
    u64 now = leaf();
    if (is_leaf(was, level)) now |= was & format_.dirty;
    const bool writable = is_writable(format_, now);
    if (writable && !(pml::in_use(vm_) && !(now & format_.dirty)))
      dirty_ring::mark(vcpu_, *fault_.slot, fault_.gfn);
    if (was != now && !try_change(vm_, it_.ref(), was, now, removal_)) return MapResult::kRetry;
    if (is_table(was, level)) count(vm_, TdpEvent::kLargeForTable, level);
    count(vm_, writable ? TdpEvent::kLeaf : TdpEvent::kLeafReadOnly, level);
    if (!fault_.write || writable) return MapResult::kInstalled;
    count(vm_, TdpEvent::kTrackedWrite, level);
    return MapResult::kWriteProtected;
  }

  VcpuState& vcpu_;
  VmState& vm_;
  const Format& format_;
  const bool mirror_;
  const Fault& fault_;
  const unsigned wanted_level_;  // but for execution
  unsigned goal_;
  Iterator it_;
  Removal removal_;
};

}  // namespace

MapResult map(VcpuState& vcpu, const Fault& fault) { return Mapper(vcpu, fault).run(); }

}  // namespace mmu::tdp
