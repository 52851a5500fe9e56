#ifndef TWINWALK_HARNESS_PROCESSOR_PROCESSOR_H_
#define TWINWALK_HARNESS_PROCESSOR_PROCESSOR_H_

// The simulated processor: executes guest accesses on the tables that the core built, as stale as
// the SDM permits, never staler. It knows nothing of the guest's own tables, and shares no code
// with core or oracle.
//
//   access ─► TLB entry for the page? ──yes─► rights under today's controls ──► data
//                 │ no, or D must be set           │ not allowed
//                 ▼                                ▼
//             deepest paging-structure entry,   #PF exit: drops the page's TLB entries and the
//             else the root: walk on from there  paging-structure entries on its way
//                 │ sets A, then caches; sets D for a store
//
// Tables of 4 and 5 levels are walked from the root. With 3 levels it is a processor in PAE mode:
// its root is the four PDPTEs, which it holds in registers of its own from one load to the next.

#include <cstdint>

#include "harness/host_memory.h"
#include "harness/processor/translation_cache.h"
#include "harness/trace/machine.h"
#include "harness/trace/op.h"

namespace twinwalk::processor {

// What a vCPU runs with. CR0.WP and EFER.NXE are on: the core enters the guest with nothing else.
struct Controls {
  std::uint64_t root = 0;   // hpa of the top table; 3 levels: of four PDPTEs, aligned to 32 bytes
  std::uint8_t levels = 4;  // of the tables, 3..5
  std::uint8_t gva_bits = 48;  // linear addresses: 32 (taken modulo 2^32), or canonical to 48 or 57
  Tag tag;
  bool smep = false, smap = false, pke = false;
  std::uint8_t cpl = 0;
  bool ac = false;  // EFLAGS.AC
  std::uint32_t pkru = 0;
};

struct Access {
  std::uint64_t gva = 0;
  std::uint8_t size = 8;  // 1, 2, 4, 8; a fetch is of the one word at gva & ~7
  AccessKind kind = AccessKind::kRead;
  bool implicit = false;    // implicit supervisor access
  std::uint64_t value = 0;  // stored (kWrite), added (kRmw)
};

struct Result {
  enum class Kind : std::uint8_t {
    kDone,
    kPageFault,
    kGeneralProtection,
    kEntryFailed,  // the PDPTEs cannot be loaded: a present one has a reserved bit
  } kind = Kind::kDone;
  std::uint32_t error_code = 0;  // kPageFault
  std::uint64_t fault_gva = 0;   // kPageFault: CR2
  unsigned parts = 1;            // 2 if the access crosses a page
  std::uint64_t hpa[2] = {};     // kDone: where each part lies
  std::uint64_t value = 0;       // kDone: what was there before
};

struct Flush {
  enum class Kind : std::uint8_t { kAll, kPcid, kAddress } kind = Kind::kAll;
  std::uint8_t vcpu = TranslationCache::kEveryVcpu;
  std::uint16_t pcid = 0;
  std::uint64_t gva = 0;
};

class Processor final : public FrameReaders {
 public:
  explicit Processor(HostMemory& memory) : memory_(memory) { memory_.set_readers(this); }

  // Empty caches; the host's MAXPHYADDR, the vendor and the TLB's policy as the machine says. The
  // host has 1G pages, whatever the guest's CPUID. Constant cost.
  void reset(const Machine& machine);

  // Executes one access: translates every part, then touches memory. A #PF changes nothing but A
  // bits of the tables and the caches.
  void access(const Controls& controls, const Access& access, Result& result);

  void flush(const Flush& flush);
  bool reaches(std::uint64_t pfn, std::uint64_t count) const override {
    return cache_.reaches(pfn, count) || pdptes_reach(pfn, count);
  }

 private:
  struct Need;  // what the access asks of a translation

  bool translate(const Controls& controls, const Need& need, std::uint64_t gva, std::uint64_t& hpa,
                 std::uint32_t& error_code);
  // Apart from the way of a TLB hit, which is to be short.
  [[gnu::noinline]] bool walk(const Controls& controls, const Need& need, std::uint64_t gva,
                              std::uint64_t& hpa, std::uint32_t& error_code);
  bool reserved(std::uint64_t entry, unsigned level, unsigned levels) const;
  [[gnu::noinline]] bool load_pdptes(const Controls& controls);
  bool pdptes_reach(std::uint64_t pfn, std::uint64_t count) const;

  // A vCPU's PDPTE registers. They serve until the vCPU is entered with another root, or what is
  // cached for it is dropped as a whole.
  struct Pdptes {
    bool loaded = false;
    std::uint64_t root = 0;
    std::uint64_t entry[4] = {};
  };

  HostMemory& memory_;
  TranslationCache cache_;
  Pdptes pdptes_[kMaxVcpus];
  TlbPolicy policy_ = TlbPolicy::kStale;
  std::uint64_t above_maxphyaddr_ = 0;
  bool amd_ = false;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_PROCESSOR_H_
