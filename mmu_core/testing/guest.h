#ifndef MMU_CORE_TESTING_GUEST_H_
#define MMU_CORE_TESTING_GUEST_H_

// A small guest on a small processor: builds page tables in guest memory, makes accesses as
// hardware would on the core's tables (without a TLB), and audits the core after every step.

#include <array>
#include <memory>
#include <optional>
#include <ostream>

#include "mmu_core/counters.h"
#include "mmu_core/mmu.h"
#include "mmu_core/testing/test_platform.h"

namespace mmu::testing {

inline constexpr u64 kRights = pte::kP | pte::kW | pte::kU;  // of an upper entry
inline constexpr u64 kUsed = kRights | pte::kA | pte::kD;    // of a leaf that was written before
inline constexpr Hva kMemory{0x7f00'0000'0000};              // of slot 0; aligned for 1G pages

// What hardware finds in the core's tables for one address.
struct Translation {
  bool present = false;   // down to a leaf
  bool reserved = false;  // some entry has a reserved bit
  unsigned level = 0;     // of the last entry read; 1 = 4K leaf
  Hpa table;              // the one that holds it
  u64 entry = 0;          // its value
  u8 access = 0;          // acc:: bits of the path
  Pfn pfn;                // of the 4K page, if present
  bool writable() const { return present && (access & acc::kW); }
  bool user() const { return present && (access & acc::kU); }
  bool executable() const { return present && (access & acc::kX); }
};

// How an access ended. Compared by kind and by what belongs to the kind; `value` and `emulated` are
// told besides.
struct Outcome {
  enum class Kind : u8 {
    kOk,
    kFault,
    kMmio,
    kNoMemory,
    kNoRoot,
    kStuck /* refaults without end */,
    kLater,
    kPoisoned
  };
  Kind kind = Kind::kOk;
  Hpa hpa;             // kOk: the byte reached
  u32 error_code = 0;  // kFault
  Gpa gpa;             // kMmio
  u64 value = 0;       // kOk: what a read found
  bool emulated = false;
  unsigned faults = 0;  // exits that it took
  friend bool operator==(const Outcome& a, const Outcome& b) {
    return a.kind == b.kind && a.hpa == b.hpa && a.error_code == b.error_code && a.gpa == b.gpa;
  }
};
std::ostream& operator<<(std::ostream& out, const Outcome& outcome);
Outcome page_fault(u32 error_code);
Outcome mmio(Gpa gpa);

class Guest {
 public:
  // Memory [0, pages) in slot 0; CR3 names an empty table; WP, PAE and NXE are set; CPL 0.
  static constexpr u64 kPages = 4096;
  explicit Guest(const VmConfig& config = VmConfig{}, u64 pages = kPages);
  // The same in another paging mode; of 32-bit paging with CR4.PSE.
  Guest(const PagingMode& mode, const VmConfig& config = VmConfig{});
  ~Guest();
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  RecordingPlatform platform;
  Vm& vm() { return *vm_; }
  Vcpu& cpu(u32 index = 0) { return vm_->vcpu(index); }
  VmState& state();  // what the core keeps to itself, for tests of its bookkeeping
  void set_cpl(u8 cpl, u32 vcpu = 0);
  void set_pkru(u32 pkru, u32 vcpu = 0);
  void set_ac(bool ac, u32 vcpu = 0);

  // Guest memory of slot 0 as the host sees it; a store is unannounced.
  u64 load(Gpa gpa) { return platform.load(kMemory + gpa.raw); }
  void host_store(Gpa gpa, u64 value) { platform.store(kMemory + gpa.raw, value); }
  // Guest entries, of the size that the mode has.
  u64 load_entry(Gpa gpa);
  void store_entry(Gpa gpa, u64 value);

  // Registers of a vCPU in this paging mode, as the host sets them. The tables that map() builds
  // are of the mode that was entered last.
  Sregs sregs(const PagingMode& mode) const;
  void enter_mode(const PagingMode& mode, Gpa root, u32 vcpu = 0);
  void enter_mode(const PagingMode& mode, u32 vcpu = 0) { enter_mode(mode, root_, vcpu); }
  const PagingMode& mode() const { return *mode_; }

  // Tables. Made by host stores, so only for what is not shadowed yet or was not present.
  Gpa new_table() { return Gpa{next_table_ += kPageSize}; }
  // A leaf of `level` with `flags` in the tree of `root`, and the missing tables above it with
  // `upper`; of a PAE PDPTE only P, and it is latched by a MOV to CR3 in all vCPUs that use it.
  void map(Gpa root, Gva gva, Gpa gpa, u64 flags = kUsed, unsigned level = 1, u64 upper = kRights);
  void map(Gva gva, Gpa gpa, u64 flags = kUsed, unsigned level = 1, u64 upper = kRights) {
    map(root_, gva, gpa, flags, level, upper);
  }
  // The guest's entry for gva at `level`. Precondition: the tables above exist.
  Gpa entry(Gpa root, Gva gva, unsigned level);
  Gpa entry(Gva gva, unsigned level) { return entry(root_, gva, level); }
  // The guest's table that this entry is in.
  Gpa table_of(Gpa root, Gva gva, unsigned level = 1) {
    return Gpa{entry(root, gva, level).raw & ~(kPageSize - 1)};
  }
  Gpa table_of(Gva gva, unsigned level = 1) { return table_of(root_, gva, level); }
  Gpa root() const { return root_; }

  // One access of at most 8 bytes that does not cross a page: enters, walks the core's tables, and
  // lets the core handle each fault until it is done. Stores go to the frame reached.
  Outcome access(Gva gva, Access access, u64 value = 0, u32 vcpu = 0, unsigned size = 8);
  Outcome read(Gva gva, u32 vcpu = 0) { return access(gva, Access::kRead, 0, vcpu); }
  Outcome write(Gva gva, u64 value, u32 vcpu = 0) {
    return access(gva, Access::kWrite, value, vcpu);
  }
  Outcome fetch(Gva gva, u32 vcpu = 0) { return access(gva, Access::kFetch, 0, vcpu); }
  // An emulated store of the guest to its physical memory.
  void write_physical(Gpa gpa, u64 value, unsigned size = 8, u32 vcpu = 0);
  // What is in the tables now, faulting nothing in. Enters first, so requests are processed.
  Translation translation(Gva gva, u32 vcpu = 0);

  // The outcome of an access that reaches this byte of slot 0, or of the host's.
  Outcome reaches(Gpa gpa) { return reaches(kMemory + gpa.raw); }
  Outcome reaches(Hva hva);
  Pfn frame(Gpa gpa) { return platform.host_page(kMemory + gpa.raw).pfn; }

  Status set_memslot(const MemslotRequest& request);
  void add_slot(u32 id, Gfn gfn, u64 pages, Hva hva, bool read_only = false,
                bool log_dirty = false);
  Status slot_request(MemslotRequest::Kind kind, u32 id, Gfn gfn = Gfn{}, bool read_only = false,
                      bool log_dirty = false);

  // The host moves this page to another frame, and says so.
  void migrate(Hva page);

  // Fails the test for each broken invariant. Every step above ends with it.
  void audit();
  // How often an event was counted, over all levels and roles; saturates at 255 each.
  u64 events(Event event) const;
  const VmStats& stats() { return vm_->stats(); }

 private:
  struct Registers {
    u8 cpl = 0;
    u32 pkru = 0;
    bool ac = false;
  };

  Translation walk(const EntryState& state, Gva gva);
  // The error code of the #PF that hardware raises, if it does. WP and NXE are always on
  // (EntryState).
  static std::optional<u32> hardware_fault(const Translation& t, const EntryState& state,
                                           const Registers& regs, Access access);
  Outcome finish(const Translation& t, Gva gva, Access access, u64 value, unsigned size);
  Outcome emulate(Gva gva, Access access, u64 value, u32 vcpu, unsigned size);
  Outcome attempt(Gva gva, Access access, u64 value, u32 vcpu, unsigned size);

  std::unique_ptr<std::byte[]> storage_;
  std::array<u8, kStateCounters> counters_{};
  Registers regs_[kMaxVcpus];
  u8 host_maxphyaddr_;
  u64 next_table_ = 0x10000;
  const PagingMode* mode_ = &k4Level;
  u32 vcpus_;
  Gpa root_;
  Vm* vm_;
};

}  // namespace mmu::testing

#endif  // MMU_CORE_TESTING_GUEST_H_
