#ifndef MMU_CORE_TESTING_TDP_GUEST_H_
#define MMU_CORE_TESTING_TDP_GUEST_H_

// A guest's physical memory behind a processor that walks EPT or NPT as the manuals say (and shares
// no bit with the core's format.h), and audits the core after every step. What the guest does with
// its own tables is not the core's business here.

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "mmu_core/mmu.h"
#include "mmu_core/state.h"
#include "mmu_core/tdp/counters.h"
#include "mmu_core/testing/test_platform.h"

namespace mmu::testing {

inline constexpr Hva kTdpMemory{0x7f00'0000'0000};  // of slot 0; aligned for 1G pages

// A processor's second dimension.
struct TdpMachine {
  const char* name;
  Translation translation = Translation::kEpt;
  u8 levels = 4;
  bool ad = true;
  bool mbec = false;
  bool pml = true;
  bool logs() const { return ept() && ad && pml; }  // the hardware keeps a log of writes
  bool ept() const { return translation == Translation::kEpt; }
  // Of a VM with this machine.
  VmConfig config() const;
};
inline constexpr TdpMachine kTdpMachines[] = {
    {"Ept4", Translation::kEpt, 4},
    {"Ept5", Translation::kEpt, 5},
    {"EptNoAd", Translation::kEpt, 4, false},
    {"EptMbec", Translation::kEpt, 4, true, true},
    {"EptMbecNoAd", Translation::kEpt, 4, false, true},
    {"EptNoPml", Translation::kEpt, 4, true, false, false},
    {"Npt3", Translation::kNpt, 3},
    {"Npt4", Translation::kNpt, 4},
    {"Npt5", Translation::kNpt, 5},
};
// Those to which a test applies.
inline std::vector<TdpMachine> machines(bool (*applies)(const TdpMachine&)) {
  std::vector<TdpMachine> some;
  for (const TdpMachine& m : kTdpMachines)
    if (applies(m)) some.push_back(m);
  return some;
}
inline bool has_ept(const TdpMachine& m) { return m.ept(); }
inline bool has_npt(const TdpMachine& m) { return !m.ept(); }

// Of a VM with private memory: within 40 bits of gpa, memslots lie below.
inline constexpr u64 kSharedBit = u64{1} << 39;
inline Gpa shared(Gpa gpa) { return gpa + kSharedBit; }
inline Hva hva_of(Gpa gpa) { return kTdpMemory + gpa.raw; }  // of slot 0, and beyond

inline void PrintTo(const TdpMachine& m, std::ostream* out) { *out << m.name; }
inline std::string tdp_name(const ::testing::TestParamInfo<TdpMachine>& info) {
  return info.param.name;
}

// What the hardware finds in the core's tables for one gpa.
struct TdpWalk {
  bool present = false;  // down to a leaf
  bool error = false;    // misconfigured, or a reserved bit
  bool read = false, write = false, exec = false;
  unsigned level = 0;  // of the last entry read
  Hpa table;           // the one that holds it
  unsigned index = 0;
  u64 entry = 0;
  Pfn pfn;  // of the 4K page, if present
};

struct TdpOutcome {
  enum class Kind : u8 {
    kOk,
    kMmio,
    kEmulate,
    kMemoryFault,
    kNoMemory,
    kNoRoot,
    kStuck,
    kLater,
    kPoisoned
  };
  Kind kind = Kind::kOk;
  Hpa hpa;  // kOk: the byte reached
  u64 value = 0;
  unsigned faults = 0;
  friend bool operator==(const TdpOutcome& a, const TdpOutcome& b) {
    return a.kind == b.kind && a.hpa == b.hpa;
  }
};
std::ostream& operator<<(std::ostream& out, const TdpOutcome& o);
TdpOutcome ended(TdpOutcome::Kind kind);

class TdpGuest {
 public:
  static constexpr u64 kPages = 4096;
  // Memory [0, pages) in slot 0.
  explicit TdpGuest(const TdpMachine& machine) : TdpGuest(machine, machine.config()) {}
  TdpGuest(const TdpMachine& machine, const VmConfig& config, u64 pages = kPages);
  ~TdpGuest();
  TdpGuest(const TdpGuest&) = delete;
  TdpGuest& operator=(const TdpGuest&) = delete;

  RecordingPlatform platform;
  Vm& vm() { return *vm_; }
  Vcpu& cpu(u32 index = 0) { return vm_->vcpu(index); }
  VmState& state();
  const TdpMachine& machine() const { return machine_; }

  // An access of 8 aligned bytes. `table`: of the processor's own, to a guest table.
  TdpOutcome access(Gpa gpa, Access access, u64 value = 0, u32 vcpu = 0, bool table = false);
  TdpOutcome read(Gpa gpa, u32 vcpu = 0) { return access(gpa, Access::kRead, 0, vcpu); }
  TdpOutcome write(Gpa gpa, u64 value = 1, u32 vcpu = 0) {
    return access(gpa, Access::kWrite, value, vcpu);
  }
  TdpOutcome fetch(Gpa gpa, u32 vcpu = 0) { return access(gpa, Access::kFetch, 0, vcpu); }
  // What is in the tables now, faulting nothing in.
  TdpWalk walk(Gpa gpa, u32 vcpu = 0);
  TdpWalk walk(const EntryState& state, Gpa gpa);
  // The fault that the hardware reports for this walk; false: the access is permitted.
  bool faults(const TdpWalk& w, Gpa gpa, Access access, TdpFault& fault) const;
  u64& entry_at(const TdpWalk& w) { return platform.table_at(w.table)[w.index]; }

  bool is_private(Gpa gpa) const { return shared_bit_ && !(gpa.raw & shared_bit_); }
  TdpOutcome reaches(Gpa gpa);  // of an access that reaches this byte of slot 0
  Pfn frame(Gpa gpa) { return platform.host_page(kTdpMemory + (gpa.raw & ~shared_bit_)).pfn; }
  // Backs what is around gpa by a large host page.
  void back_large(Gpa gpa, u8 level);

  MemslotRequest slot(u32 id, Gfn gfn, u64 pages, Hva hva) const;
  Status set(const MemslotRequest& request);
  Status remove(u32 id);
  Status set_flags(u32 id, bool read_only, bool log_dirty);
  std::vector<Gfn> take_log(u32 id = 0, u64 pages = kPages);  // the dirty pages, in order
  void invalidate(Gpa gpa, u64 pages = 1);                    // notifier begin and end

  void audit();
  u64 events(TdpEvent event) const;
  const VmStats& stats() { return vm_->stats(); }

 private:
  TdpWalk walk_of_module(const EntryState& state, Gpa gpa) const;
  void back(Gpa gpa, u32 vcpu);
  // D of the entry that a walk ended with. False: the log is full, and nothing was set.
  bool set_dirty(const EntryState& state, const TdpWalk& w, Gpa gpa, u32 vcpu);
  void exit(u32 vcpu);  // of the guest, to the core

  TdpMachine machine_;
  std::unique_ptr<std::byte[]> storage_;
  std::array<u8, kStateCounters> counters_{};
  u8 host_maxphyaddr_;
  u64 shared_bit_;
  bool external_;  // private memory is a module's
  u16 pml_index_[kMaxVcpus] = {511, 511, 511, 511};
  u64 next_large_ = 0x400'0000;
  Vm* vm_;
};

}  // namespace mmu::testing

#endif  // MMU_CORE_TESTING_TDP_GUEST_H_
