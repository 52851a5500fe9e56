#ifndef MMU_CORE_MEMSLOT_H_
#define MMU_CORE_MEMSLOT_H_

// Memslots: gfn ranges backed by host virtual memory (KVM: struct
// kvm_memory_slot, kvm_memslots). Two copies; an update fills the inactive one
// and swaps, with the generation's in-progress bit set in between.

#include "mmu_core/concurrent.h"
#include "mmu_core/mmu.h"
#include "mmu_core/rmap_head.h"

namespace mmu {

namespace tdp {
class PrivateRanges;
}

// What the slot keeps for each large-page-sized range it overlaps (KVM: kvm_lpage_info): how many
// reasons forbid mapping it large (a shadowed gfn inside, a misaligned or partial range).
struct LargeInfo {
  u32 disallow = 0;
  bool mixed = false;  // private memory and shared (tdp/attributes.h)
  bool allowed() const { return disallow == 0 && !mixed; }
};

inline constexpr unsigned kRmapLevels = 3;  // 4K, 2M, 1G

// What the slot keeps for each of some 4K pages in a row. Made when the first of them is mapped or
// its frame shadowed, so that a slot costs what is used of it, not what it could hold.
struct SlotChunk {
  static constexpr u64 kPages = 128;
  RmapHead rmap[kPages];
  u16 tracked[kPages] = {};    // shadow pages of level > 1, which write-track the gfn
  u16 watched[kPages] = {};    // others who do (page_track.h)
  SlotChunk* older = nullptr;  // the chunk of this slot that was made before this one
};
constexpr u64 chunks_of(u64 pages) { return (pages + SlotChunk::kPages - 1) / SlotChunk::kPages; }

// Arrays by page of the slot; they outlive a flags change. A move makes new ones, the dirty bitmap
// apart.
struct SlotArrays {
  // [4K index / SlotChunk::kPages], null: nothing there; and [chunks_of(pages)], the one made last.
  SlotChunk** chunk = nullptr;
  RmapHead* rmap[kRmapLevels] = {};    // [level - 1][index at level], level >= 2
  LargeInfo* large[kRmapLevels] = {};  // the same
  u64* dirty = nullptr;                // bitmap; null until log_dirty is first set
};

struct Memslot {
  bool used = false;
  u32 space = 0, id = 0;
  Gfn base;
  u64 pages = 0;
  Hva hva;
  bool read_only = false, log_dirty = false;
  bool invalid = false;  // being deleted or moved: no new translation
  SlotArrays arrays;

  bool contains(Gfn g) const { return g.raw - base.raw < pages; }
  Hva hva_of(Gfn g) const { return hva + ((g.raw - base.raw) << 12); }
  u64 index(Gfn g, unsigned level) const {  // into arrays at that level
    return (g.raw >> (9 * (level - 1))) - (base.raw >> (9 * (level - 1)));
  }
  // Null: not made yet. It is looked at without a lock, too.
  SlotChunk* chunk(Gfn g) const {
    return __atomic_load_n(&arrays.chunk[index(g, 1) / SlotChunk::kPages], __ATOMIC_ACQUIRE);
  }
  SlotChunk* newest_chunk() const { return arrays.chunk[chunks_of(pages)]; }
  // Precondition: there is none for g; mmu lock held for itself alone.
  void hang_chunk(Gfn g, SlotChunk* fresh) const {
    fresh->older = newest_chunk();
    arrays.chunk[chunks_of(pages)] = fresh;
    __atomic_store_n(&arrays.chunk[index(g, 1) / SlotChunk::kPages], fresh, __ATOMIC_RELEASE);
  }
  u64 in_chunk(Gfn g) const { return index(g, 1) % SlotChunk::kPages; }
  // The reverse map of g at a level; null: nothing ever mapped it, or its neighbours, there.
  RmapHead* rmap(Gfn g, unsigned level) const {
    if (level > 1) return &arrays.rmap[level - 1][index(g, level)];
    SlotChunk* const c = chunk(g);
    return c ? &c->rmap[in_chunk(g)] : nullptr;
  }
  // Calls f(RmapHead&) for the reverse maps, of all levels and in their order, that hold something
  // of [first, last].
  template <class F>
  void for_each_rmap(Gfn first, Gfn last, F&& f) const {
    for (u64 i = index(first, 1); i <= index(last, 1); ++i) {
      SlotChunk* const c = arrays.chunk[i / SlotChunk::kPages];
      if (!c) {
        i |= SlotChunk::kPages - 1;  // on to the next chunk
      } else if (c->rmap[i % SlotChunk::kPages].word) {
        f(c->rmap[i % SlotChunk::kPages]);
      }
    }
    for (unsigned level = 2; level <= kRmapLevels; ++level)
      for (u64 i = index(first, level); i <= index(last, level); ++i)
        if (arrays.rmap[level - 1][i].word) f(arrays.rmap[level - 1][i]);
  }
  u16 tracked(Gfn g) const {
    const SlotChunk* const c = chunk(g);
    return c ? __atomic_load_n(&c->tracked[in_chunk(g)], __ATOMIC_RELAXED) : u16{0};
  }
  u16 watched(Gfn g) const {
    const SlotChunk* const c = chunk(g);
    return c ? __atomic_load_n(&c->watched[in_chunk(g)], __ATOMIC_RELAXED) : u16{0};
  }
  // Of [first, first + count), as far as the slot has it.
  bool any_watched(Gfn first, u64 count) const {
    for (u64 g = first.raw; g < first.raw + count && contains(Gfn{g});) {
      if (!chunk(Gfn{g})) {
        g += SlotChunk::kPages - in_chunk(Gfn{g});  // on to the next chunk
      } else if (watched(Gfn{g++})) {
        return true;
      }
    }
    return false;
  }
  LargeInfo& large(Gfn g, unsigned level) const { return arrays.large[level - 1][index(g, level)]; }
};

struct SlotTable {
  Memslot slot[kMaxMemslots];
  u32 logged = 0;  // slots with log_dirty: asked at every entry of the guest
  Concurrent<u64> generation = 0;

  u32 count_logged() const {
    u32 n = 0;
    for (const Memslot& s : slot) n += s.used && s.log_dirty;
    return n;
  }
};
inline constexpr u64 kGenerationInProgress = u64{1} << 62;
// MMIO entries hold no more of a generation than its low bits.
inline constexpr unsigned kMmioGenerationBits = 18;
// Each space's first generation: the low bits wrap round after so many updates, so that every
// longer test comes to it.
inline constexpr u64 kUpdatesToFirstWrap = 8;

class Memslots {
 public:
  // `space`: number of the address space that they make up. Generations of different spaces are
  // never equal (KVM: kvm_swap_active_memslots).
  explicit Memslots(Platform& platform, u32 space = 0) : platform_(platform), space_(space) {
    clear();
  }

  // What new slots' notes of mixed large pages are made from.
  void watch(const tdp::PrivateRanges& ranges, u64 shared_gfn_bit) {
    private_ = &ranges;
    shared_gfn_bit_ = shared_gfn_bit;
  }
  // Of an address of the guest's, where the two differ (VmConfig::shared_bit): the slot whose
  // memory it reaches, null if only memory of the other kind is there; and the address in that
  // slot.
  const Memslot* reached(Gfn gfn) const;
  Gpa without_shared_bit(Gpa gpa) const { return Gpa{gpa.raw & ~(shared_gfn_bit_ << 12)}; }

  // The active table. Lookups are by a one-entry hint, then a scan of at most kMaxMemslots.
  const SlotTable& active() const { return copy_[active_]; }
  Memslot* find(Gfn gfn) {  // null: no slot, i.e. MMIO. Invalid slots are found.
    SlotTable& table = copy_[active_];
    Memslot& likely = table.slot[hint_];
    return likely.contains(gfn) ? &likely : find_and_note(table, gfn);
  }
  const Memslot* find(Gfn gfn) const { return const_cast<Memslots*>(this)->find(gfn); }
  Memslot* by_id(u32 id);  // null if not used

  // Checks a request against the active table without changing anything.
  Status validate(const MemslotRequest& request, u8 maxphyaddr) const;
  // Each publish builds the inactive copy and swaps it in; the generation gets its in-progress bit.
  // What has to be allocated is allocated first: kNoMemory leaves everything as it was. Nothing is
  // freed: after a delete or a move the old arrays stay in the inactive copy until take_arrays. See
  // Vm::set_memslot for the order of steps.
  Status publish_invalid(u32 id);  // step 1 of delete and move: marks the slot `invalid`
  Status publish(const MemslotRequest& request);  // the new state. Precondition: validate gave kOk
  void restore(u32 id);  // undoes publish_invalid() when publish() could not be done
  // Are the next generation's low bits those of one that was long ago? Then MMIO entries that were
  // made since must go before it begins (KVM: kvm_mmu_invalidate_mmio_sptes).
  bool next_generation_wraps() const;
  void finish_update();  // clears in-progress; generation moves on
  // Detaches what only the state before the last publish holds: all arrays of a deleted slot; of a
  // moved one all but the dirty bitmap, which the slot keeps. Call before the next publish; free
  // with the old slot's pages and base.
  SlotArrays take_arrays(u32 id);
  void free_arrays(SlotArrays& arrays, u64 pages, Gfn base);

  void clear();  // frees everything; no slots

  u64 generation() const { return active().generation; }

 private:
  Memslot* find_and_note(SlotTable& table, Gfn gfn);
  Status prepare(const MemslotRequest& request, Memslot& next);
  void swap_in(u32 id, const Memslot& next);
  Status set_log_dirty(Memslot& slot, bool on);
  Status allocate_arrays(Memslot& slot);

  Platform& platform_;
  const u32 space_;
  const tdp::PrivateRanges* private_ = nullptr;
  u64 shared_gfn_bit_ = 0;
  SlotTable copy_[2];
  Concurrent<u32> active_ = 0;
  mutable Concurrent<u32> hint_ = 0;
};

}  // namespace mmu

#endif  // MMU_CORE_MEMSLOT_H_
