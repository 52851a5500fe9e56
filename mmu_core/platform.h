#ifndef MMU_CORE_PLATFORM_H_
#define MMU_CORE_PLATFORM_H_

// The seam through which the core reaches the world: page source, memory, frame
// lookup, TLB sink, locks, yield points. Hosted it is the harness; in the VMX
// image it is bare metal, which brings a handler for calls of pure-virtual functions.

#include "mmu_core/types.h"

namespace mmu {

enum class YieldPoint : u8 {
  kAfterWalk,      // guest walk done (two-dimensional: that of a lock-free fault, through the
                   // core's tables), nothing installed; no lock held
  kAfterFrame,     // frame looked up, mmu lock not yet taken
  kBeforeInstall,  // mmu lock held, before the leaf is written
  kAfterInstall,   // leaf written, lock released
  kNotifierBegun,  // between notifier begin and end
  kSlotSwapped,    // new memslots visible, old translations not yet gone
  kBeforeFlush,    // translations removed, the flush they owe not yet issued
  kAfterUnlock,
  kFrozen,   // two-dimensional: an entry is frozen while a table is hung there
  kMidWalk,  // in the middle of a walk over a range, the mmu lock given up
};

enum class LockId : u8 { kSlots, kMmu };  // in the order in which they may be taken
inline constexpr u32 kMaxContexts = 8;    // inside one VM of the core at once

// What backs a host virtual page. Errors are values (KVM: KVM_PFN_ERR_*).
struct FrameLookup {
  enum class Kind : u8 {
    kFrame,
    kNoFrame /* hva not backed */,
    kReadOnly /* write wanted, hva not writable */,
    kPoisoned /* the memory there is broken */,
    kLater /* of lookup_frame_or_later() only */
  };
  Pfn pfn;  // of the 4K page asked for
  Kind kind = Kind::kNoFrame;
  bool writable = false;  // may be mapped writable even though only a read was asked for
  u8 host_level =
      1;  // 1 = 4K, 2 = 2M, 3 = 1G: size of the naturally aligned host page that holds it
};

// TLB invalidation that the core owes the hardware, for shadow paging. Every
// request applies to the vCPU named, or to all if vcpu == kAllVcpus, and is
// complete (acknowledged) when the call returns.
struct FlushRequest {
  enum class Kind : u8 {
    kAll,      // everything of this VM on that vCPU: every PCID, paging-structure caches,
               // guest-physical mappings
    kPcid,     // everything tagged with `pcid`, global entries kept
    kAddress,  // linear address `gva` under `pcid` and its global entry under any, plus
               // paging-structure caches of `pcid`
    kRange,    // what translates guest frames [gfn, gfn + pages), paging-structure caches included;
               // of the second dimension, and of both combined. May be widened to kAll
  };
  static constexpr u32 kAllVcpus = ~u32{0};
  Kind kind = Kind::kAll;
  u32 vcpu = kAllVcpus;
  u16 pcid = 0;
  Gva gva;
  Gfn gfn;
  u64 pages = 0;
};

// Where a table may lie. What CR3 of a processor outside IA-32e mode names lies below 4 GiB: CR3
// has 32 bits there. SDM 3A §"Paging-Mode Modifiers"; KVM: pae_root is allocated with GFP_DMA32.
enum class TableReach : u8 { kAnywhere, kBelow4G };

class Platform {
 public:
  // Page tables. A frame for a table, zeroed and where `reach` wants it, or false when the source
  // is exhausted or told to fail. `ptr` is how the core reaches it; it stays valid until
  // free_table.
  virtual bool alloc_table(TableReach reach, Hpa& hpa, u64*& ptr) = 0;
  virtual void free_table(Hpa hpa) = 0;
  // The way from a table back to what the core knows of it (KVM: to_shadow_page): null after
  // alloc_table, kept until free_table; null, too, where no table is.
  virtual void set_descriptor(Hpa table, void* descriptor) = 0;
  virtual void* descriptor_of(Hpa table) const = 0;
  // Storage for descriptors (shadow pages, rmap chains, dirty bitmaps, slot arrays); size bytes,
  // 16-aligned, holding anything; nullptr when exhausted. The platform may poison and quarantine
  // what is freed.
  virtual void* alloc_object(u64 size) = 0;
  virtual void free_object(void* object, u64 size) = 0;

  // A context reads tables and descriptors that others may take down meanwhile. What these free
  // with
  // ..._after_readers stays until every section that had begun by then has ended (KVM: RCU).
  // Sections do not nest.
  virtual void begin_reading() = 0;
  virtual void end_reading() = 0;
  virtual void free_table_after_readers(Hpa hpa) = 0;
  virtual void free_object_after_readers(void* object, u64 size) = 0;

  // A context looks at the memslots (slots_in_use.h). Sections nest. The default is for platforms
  // with one context. KVM: srcu_read_lock(&kvm->srcu).
  virtual void begin_using_slots() {}
  virtual void end_using_slots() {}
  // Returns when each section of another context that had begun has ended. The caller is in none;
  // it holds LockId::kSlots only. KVM: synchronize_srcu.
  virtual void wait_for_users_of_slots() {}

  // VmConfig::external_private: the module's tables, whose root is its own. An entry of the core's
  // mirror is frozen while one of these runs, which may be while the mmu lock is held shared. What
  // fills may be refused because the module is busy: the fault is tried again. What takes away may
  // not, and is complete when the call returns, TLBs included (KVM: link_external_spt,
  // set_external_spte, remove_external_spte, free_external_spt).
  //
  // A table of `level`, which alloc_table gave, is to translate what begins at gfn.
  virtual bool link_external_table(Gfn gfn, u8 level, Hpa table) {
    return (void)gfn, (void)level, (void)table, true;
  }
  virtual bool set_external_leaf(Gfn gfn, Pfn pfn) { return (void)gfn, (void)pfn, true; }
  virtual void remove_external_leaf(Gfn gfn, Pfn pfn) { (void)gfn, (void)pfn; }
  // The table has no entries any more.
  virtual void free_external_table(Gfn gfn, u8 level, Hpa table) {
    (void)gfn, (void)level, (void)table;
  }

  // Host memory by host-physical address, naturally aligned, size 1, 2, 4 or 8. These are how the
  // core touches guest memory (guest page tables, emulated stores); the platform checks that the
  // frame is the guest's.
  virtual u64 read_guest(Hpa hpa, unsigned size) = 0;
  virtual void write_guest(Hpa hpa, unsigned size, u64 value) = 0;
  // Compare-and-exchange of 1, 2, 4 or 8 bytes of one page, aligned or not, as one to whoever
  // looks; true if it held `expected`. Guest entries, and locked instructions that are emulated
  // (SDM 3A §"Bus Locking").
  virtual bool cmpxchg_guest(Hpa hpa, unsigned size, u64 expected, u64 desired) = 0;

  // hva -> frame, faulting it in (KVM: kvm_faultin_pfn). `write`: the caller will write.
  virtual FrameLookup lookup_frame(Hva hva, bool write) = 0;
  // The same for a vCPU that could do something else meanwhile. kLater: the page has to be fetched;
  // when it is there Vcpu::async_page_ready(token) is called (KVM: FOLL_NOWAIT, struct
  // kvm_async_pf).
  virtual FrameLookup lookup_frame_or_later(Hva hva, bool write, u64 token) {
    (void)token;
    return lookup_frame(hva, write);
  }

  // The same memory by host virtual address, whatever frame is behind it in that moment: kFrame if
  // it was done (KVM: __copy_from_user, __copy_to_user, a compare-and-exchange at a user address).
  // The default is for platforms on which nobody else takes the frame away meanwhile.
  virtual FrameLookup::Kind read_hva(Hva hva, unsigned size, u64& value) {
    const FrameLookup found = lookup_frame(hva, false);
    if (found.kind == FrameLookup::Kind::kFrame)
      value = read_guest(found.pfn.base() + hva.raw % kPageSize, size);
    return found.kind;
  }
  virtual FrameLookup::Kind write_hva(Hva hva, unsigned size, u64 value) {
    const FrameLookup found = lookup_frame(hva, true);
    if (found.kind == FrameLookup::Kind::kFrame)
      write_guest(found.pfn.base() + hva.raw % kPageSize, size, value);
    return found.kind;
  }
  // `done`: it held `expected`.
  virtual FrameLookup::Kind cmpxchg_hva(Hva hva, unsigned size, u64 expected, u64 desired,
                                        bool& done) {
    const FrameLookup found = lookup_frame(hva, true);
    if (found.kind == FrameLookup::Kind::kFrame)
      done = cmpxchg_guest(found.pfn.base() + hva.raw % kPageSize, size, expected, desired);
    return found.kind;
  }

  virtual void flush_tlb(const FlushRequest& request) = 0;
  // What Vcpu::enter() said may hold no longer: whoever is in the guest leaves it, and asks again
  // before going back. Complete when the call returns; nothing is flushed. The default is for
  // platforms where no guest runs while the core does. KVM: kvm_make_all_cpus_request with
  // KVM_REQUEST_WAIT.
  virtual void call_out_of_guest() {}

  // Vm::track_writes. The core has stored for the guest, by emulation or to set A or D of a guest's
  // entry, in one aligned piece that a tracked page holds. No lock is held, but the memslots are in
  // use: no call from here that changes them, or what is tracked.
  virtual void on_tracked_write(u32 space, Gpa gpa, unsigned size) {
    (void)space, (void)gpa, (void)size;
  }
  // A memslot of which pages were tracked has been deleted or moved away from [gfn, gfn + pages):
  // nothing there is tracked any more. The slots lock is held: no call of the Vm from here.
  virtual void on_tracked_slot_gone(u32 space, Gfn gfn, u64 pages) {
    (void)space, (void)gfn, (void)pages;
  }

  // Which of the contexts (vCPUs, host threads) that may be inside the core at once is running,
  // below kMaxContexts: each takes locks in order for itself. A platform with one needs no more
  // than this.
  virtual u32 context() const { return 0; }
  virtual void lock(LockId id) = 0;
  virtual void unlock(LockId id) = 0;
  // By several contexts at once, while none has it for itself. Only LockId::kMmu.
  virtual void lock_shared(LockId id) = 0;
  virtual void unlock_shared(LockId id) = 0;
  // May run other vCPUs or host events before it returns. Nothing, freestanding.
  virtual void yield(YieldPoint point, u32 vcpu) { (void)point, (void)vcpu; }

  // A broken invariant inside the core. Does not return.
  [[noreturn]] virtual void panic(const char* why) = 0;

 protected:
  ~Platform() = default;
};

}  // namespace mmu

#endif  // MMU_CORE_PLATFORM_H_
