#ifndef MMU_CORE_MMU_H_
#define MMU_CORE_MMU_H_

// The facade: all that outsiders need of the MMU core. A Vm holds memslots,
// shadow pages and reverse maps; a Vcpu holds control registers, roots and
// pending requests.
//
//   guest event ──► Vcpu::set_cr3 / invlpg / ... ──► requests
//   hardware #PF ─► Vcpu::handle_fault ──► kRetry | kInject | kEmulate | kMmio
//   before entry ─► Vcpu::enter ──► root, PCID, hardware control bits
//   host event ───► Vm::notifier_* / set_memslot / dirty log / reclaim
//
// With VmConfig::translation kEpt or kNpt the hardware walks the guest's own tables and the core
// maps guest-physical memory only: register writes and INVLPG change no translation, and instead of
// a #PF comes
//
//   EPT violation, misconfiguration, #NPF ─► Vcpu::handle_tdp_fault ──► kRetry | kMmio | ...
//
// Nothing here throws, allocates from a heap, or reads a clock.

#include "mmu_core/platform.h"
#include "mmu_core/types.h"

namespace mmu {

enum class Vendor : u8 { kIntel, kAmd };

// CPUID capabilities as the guest sees them.
struct Capabilities {
  Vendor vendor = Vendor::kIntel;
  u8 maxphyaddr = 40;       // guest
  u8 host_maxphyaddr = 46;  // of the tables that the core writes
  bool nx = true, gbpages = true, pge = true, pcid = true, invpcid = true, smep = true, smap = true,
       pku = true, la57 = false, pse = true, pse36 = true, pae = true, svm = false;
};

// By what tables the hardware translates the guest's addresses.
enum class Translation : u8 {
  kShadow,  // one dimension: guest-virtual to host-physical
  kEpt,     // the guest's own tables, then Intel's extended page tables
  kNpt,     // the guest's own tables, then AMD's nested page tables
};

// What the hardware's second dimension can do: IA32_VMX_EPT_VPID_CAP and the secondary controls;
// with NPT the host's CPUID. Both have 4K and 2M pages as `large_2m` says.
struct TdpCapabilities {
  bool ad = true;         // accessed and dirty flags (NPT: always)
  bool exec_only = true;  // X without R (NPT: never)
  bool large_2m = true, large_1g = true;
  bool mbec = false;         // mode-based execute control
  bool pml = true;           // page-modification logging; needs `ad`
  bool nx = true;            // NPT: the host's EFER.NXE
  bool unrestricted = true;  // a guest without paging runs as it is; else on the identity map
};

// Neutral options: none changes what a guest can see.
struct Options {
  bool prefetch = true, unsync = true, large_pages = true, eager_sync = false, extra_flush = false,
       extra_zap = false;
  // Two-dimensional paging.
  bool nx_huge_pages = false;  // no executable large page (mitigation of CVE-2018-12207)
  bool eager_split = false;    // large pages are split when logging begins, not at the write
  bool fast_fault = true;      // lock-free answer to faults that only narrow rights make
  // Dirty log: get_dirty_log() does not protect again, clear_dirty_log() does; all pages count as
  // dirty at first; pages go to the ring of the vCPU as well.
  bool manual_clear = false, initially_set = false, dirty_ring = false;
};

inline constexpr u32 kMaxVcpus = 4;
inline constexpr u32 kMaxMemslots = 10;     // of one address space; two are for the host itself
inline constexpr u32 kAddressSpaces = 2;    // 0: outside SMM, 1: inside
inline constexpr u32 kDefaultQuota = 1024;  // shadow pages
// Of a VM of so many vCPUs; a smaller one is raised to this. See reclaim.h.
constexpr u32 min_quota(u32 vcpus) { return 4 * (vcpus - 1) + 13; }

struct VmConfig {
  Capabilities caps;
  Options options;
  u32 vcpus = 1;
  u32 quota = kDefaultQuota;  // most shadow pages in use
  // Least levels of the table that the hardware walks, 3 to 5. 3: a guest outside IA-32e mode runs
  // on a PAE table. 4, 5: what translates it hangs below tables of the host's own; with 5 so does
  // what translates a 4-level guest.
  // EPT: 4 or 5 (3 counts as 4); NPT: 3 (PAE) to 5.
  u8 host_levels = 3;
  Translation translation = Translation::kShadow;
  TdpCapabilities tdp;
  // Options::dirty_ring: a vCPU is not entered while so many pages wait in its ring. 0, or more
  // than half of what the ring holds: as many as that.
  u32 dirty_ring_limit = 0;
  Gpa identity_map{0xfffb'c000};  // of a guest that needs one, KVM_SET_IDENTITY_MAP_ADDR
  u64 shared_bit =
      0;  // EPT: the bit of a gpa that selects shared memory; 0: there is no private one
  // The tables of private memory are a module's, which alone may write them (TDX): the core has a
  // mirror of them, tells the platform what to change, and maps 4K pages with all rights. No
  // memslot that is read-only or logged holds private memory then, and none of it is write-tracked.
  bool external_private = false;
};

struct MemslotRequest {
  enum class Kind : u8 { kAdd, kDelete, kMove, kFlags } kind = Kind::kAdd;
  u32 space = 0;                              // < kAddressSpaces; ids count in each
  u32 id = 0;                                 // < kMaxMemslots
  Gfn gfn;                                    // kAdd, kMove
  u64 pages = 0;                              // kAdd
  Hva hva;                                    // kAdd, 4K-aligned
  bool read_only = false, log_dirty = false;  // kAdd, kFlags
};
enum class Status : u8 {
  kOk,
  kInvalid /* overlap, no such slot, bad range, what external_private excludes; nothing changed */,
  kNoMemory
};

struct FaultResult {
  enum class Kind : u8 {
    kRetry,     // a translation was installed or was there: run the guest again
    kInject,    // #PF for the guest: error_code, gva
    kEmulate,   // the access is permitted but must be done by Vcpu::emulate_* (write to a shadowed
                // table, WP=0, ...)
    kMmio,      // permitted, but gpa has no memslot (or is a write to a read-only slot)
    kNoMemory,  // table source exhausted even after reclaim: the caller may retry after giving
                // memory
    kMemoryFault,  // private where the attributes say shared, or the reverse: for the host to
                   // convert. With external_private also what the host lets be read only
    kLater,        // the host fetches the page (Platform::lookup_frame_or_later): the vCPU may run
                   // again when async_page_ready(token) was called
    kPoisoned,     // the host's memory at gpa is broken: a machine check for the guest
  };
  Kind kind = Kind::kRetry;
  u32 error_code = 0;  // kInject, as the guest must see it
  Gpa gpa;             // kEmulate, kMmio, kMemoryFault, kPoisoned
  u64 token = 0;       // kLater
};

// An EPT violation or misconfiguration, or an #NPF, as the hardware reports it. SDM 3C
// §"EPT-Induced VM Exits"; APM 2 §"Nested versus Guest Page Faults, Fault Ordering".
struct TdpFault {
  Gpa gpa;
  bool read = false, write = false, fetch = false;
  bool present = false;     // the translation existed: rights were missing (EPT: RWX not 0)
  bool reserved = false;    // EPT misconfiguration; NPT: RSVD
  bool table = false;       // the access was to one of the guest's paging-structure entries
  bool user_fetch = false;  // MBEC: a fetch from a user-mode linear address
  bool is_private = false;  // of a private gpa (VmConfig::shared_bit)
};

// Result of an access that the core performs itself with the current control registers.
struct EmulateResult {
  enum class Kind : u8 {
    kDone,
    kInject,
    kMmio,
    kNoMemory,
    kRetry,  // a memslot is being deleted or moved, or memory changed between load and store of an
             // rmw: nothing was done, try again
    kPoisoned,  // the host's memory at gpa is broken; nothing was done
  } kind = Kind::kDone;
  u32 error_code = 0;
  Gva fault_gva;  // kInject: CR2
  Gpa gpa;        // kMmio, kPoisoned; kDone: where the first byte landed
  Gpa gpa2;       // kDone: where the first byte on the second page landed, if the access crosses
  u64 value = 0;  // read, fetch, rmw: old data
};

enum class Access : u8 { kRead, kWrite, kFetch, kRmw };

// What the hardware is entered with.
struct EntryState {
  bool ok = false;  // false: no root could be built (table source exhausted), or `ring_full`, or no
                    // memslot holds the identity map that the guest needs
  Hpa root;         // hardware CR3 base; levels = 3: of the 32-byte-aligned array of four PDPTEs
  u16 pcid = 0;     // hardware PCID tag: the guest's if CR4.PCIDE, else 0
  // Of the hardware walk. 3: a PAE table. The hardware reads the four PDPTEs when it is entered
  // with another root, and after any flush of this vCPU.
  u8 levels = 4;
  // Effective control bits under which the hardware checks the core's entries. WP is always 1, NXE
  // always 1.
  bool smep = false, smap = false, pke = false;

  // ---- two-dimensional: `root` and `levels` are those of EPT or NPT, and the guest runs on its
  // own registers but for these.
  u64 tdp_pointer = 0;  // EPT_POINTER, or nCR3
  // EPT_POINTER of private memory, if VmConfig::shared_bit and not external_private.
  u64 private_pointer = 0;
  u64 guest_cr0 = 0, guest_cr3 = 0, guest_cr4 = 0;
  bool pdptes_valid = false;  // the four PDPTE fields are loaded (PAE guest, EPT)
  u64 pdpte[4] = {};
  bool ring_full = false;  // !ok: Vcpu::take_dirty_ring() first
  Hpa pml;  // page-modification log of 512 gpas, filled from the last one down; 0: off
};

// The registers that the host sets together (KVM: struct kvm_sregs).
struct Sregs {
  u64 cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
};

struct VcpuState;  // state.h
struct VmState;

class Vcpu {
 public:
  // Guest register writes. False: #GP(0), nothing changed. Values are the guest's.
  bool set_cr0(u64 value);
  bool set_cr3(u64 value);  // bit 63 with PCIDE: no flush
  bool set_cr4(u64 value);
  bool set_efer(u64 value);
  // The host sets them, all at once; everything of this vCPU is flushed. False: no processor could
  // be in that state, or a PDPTE that would be loaded has a reserved bit; nothing changed.
  bool set_sregs(const Sregs& sregs);
  // SMI and RSM: from now on everything physical is in address space 1, or 0 again; registers and
  // latched PDPTEs stay. False: it was there already, nothing happens.
  bool set_smm(bool smm);
  bool smm() const;
  void init(bool reset);  // INIT or RESET; it ends SMM
  void set_pkru(u32 value);
  void set_cpl(u8 cpl);  // 0 or 3; harness state, not an instruction
  void set_ac(bool ac);  // EFLAGS.AC
  u64 cr0() const;
  u64 cr3() const;  // as MOV from CR3 gives it
  u64 cr4() const;
  u64 efer() const;
  u32 pkru() const;

  void invlpg(Gva gva);                       // a non-canonical gva is a NOP
  bool invpcid(u64 type, u64 pcid, Gva gva);  // false: #GP(0)
  bool invlpga(Gva gva, u32 asid);            // false: #UD

  // Processes pending requests (free obsolete roots, load root, sync, flush) and says what to run
  // with. Call before every hardware entry. KVM: vcpu_enter_guest's request handling and
  // kvm_mmu_reload.
  EntryState enter();

  // A #PF exit: `error_code` as the hardware gave it for the shadow tables. `implicit`: implicit
  // supervisor access.
  FaultResult handle_fault(Gva gva, u32 error_code, bool implicit);

  // An exit for want of a second-dimension translation. Precondition: not kShadow.
  FaultResult handle_tdp_fault(const TdpFault& fault);
  // The page of a kLater is there. Maps it ahead, as if it were read, if the vCPU translates by the
  // same tables still; the guest's A and D stay what they are. False: nothing was done, because it
  // does not, or waits for no such token any more. In either case the vCPU may run. To be called
  // where the vCPU itself could call the core.
  bool async_page_ready(u64 token);
  // At every exit, before anything else: `index` is the log's, 511 if nothing was logged, 0xffff if
  // it is full. The caller sets the index to 511 (KVM: vmx_flush_pml_buffer).
  void flush_pml(u16 index);
  // Maps [gpa, gpa + pages * 4K) ahead of use; how many pages were mapped (KVM:
  // kvm_arch_vcpu_pre_fault_memory).
  u64 prefault(Gpa gpa, u64 pages);
  // Dirty ring (Options::dirty_ring): takes at most `most` gfns, oldest first, space in bit 63
  // of each.
  u32 take_dirty_ring(Gfn* gfns, u32 most);

  // The core does the access in software, by the current registers and a fresh walk (KVM: the
  // emulator). Handles page crossing, A/D updates, dirty log and shadowed tables (KVM:
  // kvm_mmu_track_write).
  EmulateResult emulate(Gva gva, Access access, unsigned size, u64 value, bool implicit);
  // A guest store to guest-physical memory that is emulated (KVM: emulator_write_phys). size 1, 2,
  // 4, 8; may be misaligned and may cross a page. kMmio if no writable memslot holds it.
  EmulateResult write_physical(Gpa gpa, unsigned size, u64 value);

 private:
  friend class Vm;
  VcpuState* state_ = nullptr;
};

// Visitor of Vm::audit.
struct AuditFinding {
  enum class Class : u8 {
    kRmap,
    kParent,
    kUnsync,
    kHash,
    kCount,
    kRole,
    kContent,
    kReserved,
    kWritable,
    kNotifier,
    kDirty,
    kLeak
  } cls = Class::kRmap;
  const char* what = "";  // static text, one sentence
  Gfn gfn;
  u64 spte = 0;
  Hpa table;
  u32 index = 0;
};
class AuditSink {
 public:
  virtual void on_finding(const AuditFinding& finding) = 0;

 protected:
  ~AuditSink() = default;
};

struct VmStats {  // counts since creation; for MMU-state coverage and for tests
  u64 faults = 0, fetches = 0, syncs = 0, unsyncs = 0, prefetches = 0, zaps = 0, recycled = 0,
      fast_zaps = 0, invlpgs = 0, flushes = 0, pt_writes = 0, floods = 0, root_hits = 0,
      root_misses = 0, mmio_sptes = 0, splits = 0, write_protects = 0, reclaims = 0,
      shadow_pages = 0;
};

// MMU states reached, for coverage: one byte a (role class x level x operation), saturating. The
// platform that fuzzes points this at its extra counters.
inline constexpr u32 kStateCounters = 12288;

class Vm {
 public:
  // Builds a VM in storage of object_size() bytes (16-aligned) that the caller owns. Null if the
  // source is exhausted.
  static u64 object_size();
  static Vm* create(void* storage, Platform& platform, const VmConfig& config);
  // Frees all; cost in proportion to what is in use. Afterwards no table or object of this VM is
  // allocated.
  void destroy();

  Vcpu& vcpu(u32 index);

  Status set_memslot(const MemslotRequest& request);
  // Appends nothing: fills `bitmap` (one bit a page of the slot, (pages + 63) / 64 words) and
  // clears the log, re-protecting what it must and flushing before it returns. False: no such slot
  // or not logging.
  bool get_dirty_log(u32 space, u32 slot, u64* bitmap, u64 words);

  // Manual clear: of `pages` pages of the slot from its page `first` on, those whose bit is set in
  // `bitmap` (bit 0 is `first`) are taken out of the log and protected again. False: no such slot,
  // not logging, or not Options::manual_clear.
  bool clear_dirty_log(u32 space, u32 slot, u64 first, u64 pages, const u64* bitmap);
  // Write tracking: the guest's stores to the page are done by the core, which tells the platform
  // (Platform::on_tracked_write). Counts: as many calls of the one as of the other. A change of the
  // memslot's flags leaves it as it is, a deletion or a move ends it. The host's own stores are not
  // seen. kInvalid, false: no memslot there; tracked too often, or not at all.
  Status track_writes(u32 space, Gfn gfn);
  bool untrack_writes(u32 space, Gfn gfn);
  // Memory attributes of [gfn, gfn + pages): private or shared (KVM: kvm_vm_set_mem_attributes).
  // kInvalid: there are none for this range; see also VmConfig::external_private.
  Status set_private(Gfn gfn, u64 pages, bool is_private);
  // NX huge pages: gives back up to `pages` large pages that were split for execution (KVM:
  // kvm_recover_nx_huge_pages). How many were.
  u64 recover_nx_huge_pages(u64 pages);

  // Capabilities change under the guest; vendor and host_maxphyaddr stay what they are. kInvalid,
  // nothing changed: a vCPU's registers would be impossible, or the tables could not hold the
  // guest's addresses.
  Status set_cpuid(const Capabilities& caps);
  // The vCPU is destroyed, in whatever state it is, and made anew with these registers. A PDPTE
  // with a reserved bit is latched as not present: nothing can fault. kInvalid: it is anew, but no
  // processor could have these registers, and it has those of create().
  Status recreate_vcpu(u32 index, const Sregs& start);

  // Host notifier, [start, end). Between begin and end no fault may install a translation for the
  // range.
  void notifier_begin(Hva start, Hva end);  // zaps and flushes
  void notifier_end(Hva start, Hva end);
  // The host narrowed the protection of the range to read-only: like begin+end for writable
  // translations.
  bool age(Hva start, Hva end, bool clear);  // true if any was young

  u64 reclaim(u64 pages);     // shrinker; returns shadow pages given back
  void zap_all();             // generation based
  void set_quota(u32 pages);  // 0: kDefaultQuota

  // Checks every invariant that applies. Cheap enough to call after each operation.
  void audit(AuditSink& sink) const;

  const VmStats& stats() const;
  void set_state_counters(u8* counters);  // kStateCounters bytes or nullptr

 private:
  Vm() = default;
  VmState* state_ = nullptr;
  Vcpu vcpu_[kMaxVcpus];
};

}  // namespace mmu

#endif  // MMU_CORE_MMU_H_
