#ifndef TWINWALK_HARNESS_PROCESSOR_GUEST_PROCESSOR_H_
#define TWINWALK_HARNESS_PROCESSOR_GUEST_PROCESSOR_H_

// The simulated processor that runs a guest on the guest's own tables, every one of whose
// addresses goes through a second dimension: EPT, NPT, or none at all. As stale as the SDM permits,
// never staler.
//
//   gva ─► combined mapping? ─yes─► guest's rights, then the second dimension's ──► data
//              │ no, or a D bit must be set
//              ▼
//   deepest combined structure, else CR3 (PAE with Intel: the PDPTE registers)
//              │
//              ▼            ┌───────────────┐  exit: EPT violation, misconfiguration,
//   table's gpa ──────────► │ SecondDimension│ ──────► #NPF, full log
//              │            └───────────────┘
//              ▼                    ▲
//   entry: P, reserved bits, A; at the leaf rights, D ──#PF: drops the page and its way
//              │                    │
//              └── page's gpa ──────┘──► cached as one combined mapping

#include <cstdint>

#include "harness/host_memory.h"
#include "harness/processor/combined_cache.h"
#include "harness/processor/guest_format.h"
#include "harness/processor/guest_need.h"
#include "harness/processor/guest_registers.h"
#include "harness/processor/second_dimension.h"

namespace twinwalk::processor {

struct GuestControls {
  Registers registers;
  std::uint8_t vcpu = 0;
  std::uint64_t pdpte[4] = {};  // its registers, in PAE mode with Intel
  NestedControls nested;
};

struct GuestResult {
  enum class Kind : std::uint8_t {
    kDone,
    kPageFault,  // error_code, fault_gva
    kGeneralProtection,
    kNoMemory,  // a device answers at hpa[0]: nothing is done
    kExit,      // exit; fault_gva is the linear address
  } kind = Kind::kDone;
  std::uint32_t error_code = 0;
  std::uint64_t fault_gva = 0;
  NestedExit exit;
  unsigned parts = 1;         // 2 if the access crosses a page
  std::uint64_t hpa[2] = {};  // kDone: where each part lies
  std::uint64_t gpa[2] = {};  // and the guest-physical address of each
  std::uint64_t value = 0;    // kDone: what was there before
};

class GuestProcessor final : public FrameReaders {
 public:
  explicit GuestProcessor(PhysicalMemory& memory) : memory_(memory), second_(memory, cache_) {}

  // Empty caches; capabilities and the TLB's policy as the machine says.
  void reset(const Machine& machine);
  // The guest's capabilities change (CPUID); the caches stay.
  void set_capabilities(const Machine& machine) { rules_.reset(machine); }

  // Executes one access: translates every part, then touches memory.
  void access(const GuestControls& controls, const Access& access, GuestResult& result);

  // The four PDPTEs at `cr3`, as a MOV to CR loads them into controls.pdpte. kDone, or why not;
  // then nothing is loaded.
  void load_pdptes(GuestControls& controls, std::uint64_t cr3, GuestResult& result);

  // ---- what instructions of the guest drop, in its VPID or ASID
  void invlpg(const GuestControls& controls, std::uint64_t gva);
  void invpcid(const GuestControls& controls, unsigned type, std::uint16_t pcid, std::uint64_t gva);
  void registers_written(const GuestControls& controls, TlbEffect effect);

  // ---- what its hypervisor drops, on that vCPU alone; types as the instructions have them
  void invept(std::uint8_t vcpu, unsigned type, std::uint64_t eptp);
  void invvpid(std::uint8_t vcpu, unsigned type, std::uint16_t vpid, std::uint64_t gva);
  // VM entry or exit without VPID: what VPID 0 has.
  void drop_vpid_0(std::uint8_t vcpu);
  // AMD's TLB_CONTROL at VMRUN, and INVLPGA.
  void tlb_control(std::uint8_t vcpu, std::uint16_t asid, unsigned command);
  void invlpga(const Registers& by, std::uint8_t vcpu, std::uint16_t asid, std::uint64_t gva);
  // Everything of that vCPU: what no processor keeps through a reset.
  void drop_vcpu(std::uint8_t vcpu);
  void drop_all() { cache_.clear(); }

  bool reaches(std::uint64_t pfn, std::uint64_t count) const override {
    return cache_.reaches(pfn, count);
  }
  // Where the second dimension's tables as they are lead, whatever the rights: for those who look
  // on.
  bool peek(const GuestControls& controls, std::uint64_t gpa, std::uint64_t& hpa) const {
    return second_.peek(controls.nested, gpa, hpa);
  }
  // The same with the entries on the way.
  void peek(const NestedControls& nested, std::uint64_t gpa, NestedPath& path) const {
    path = {};
    path.leads = second_.peek(nested, gpa, path.hpa, &path);
  }

 private:
  enum class Stop : std::uint8_t { kNone, kPageFault, kExit };
  struct Place;  // of one part of an access

  Context context_of(const GuestControls& controls) const;
  Stop translate(const GuestControls& controls, const GuestNeed& need, std::uint64_t gva,
                 Place& place, GuestResult& result);
  Stop attempt(const GuestControls& controls, const GuestNeed& need, std::uint64_t gva,
               Place& place, GuestResult& result, bool& from_cache);
  Stop walk(const GuestControls& controls, const GuestNeed& need, std::uint64_t gva, Place& place,
            GuestResult& result, bool& from_cache);
  Stop finish(const GuestControls& controls, const GuestNeed& need, std::uint64_t gva,
              std::uint64_t gpa, const Rights& rights, Place& place, GuestResult& result);
  GpaAccess final_access(const GuestControls& controls, const GuestNeed& need,
                         const Rights& rights) const;
  void drop_way(const GuestControls& controls, std::uint64_t gva);
  void drop_faulting(const GuestControls& controls, std::uint64_t gva);
  unsigned page_shift_now(const GuestControls& controls, std::uint64_t gva) const;

  PhysicalMemory& memory_;
  CombinedCache cache_;
  SecondDimension second_;
  GuestRules rules_;
  TlbPolicy policy_ = TlbPolicy::kStale;
  bool amd_ = false;
};

}  // namespace twinwalk::processor

#endif  // TWINWALK_HARNESS_PROCESSOR_GUEST_PROCESSOR_H_
