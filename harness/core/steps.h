#ifndef TWINWALK_HARNESS_CORE_STEPS_H_
#define TWINWALK_HARNESS_CORE_STEPS_H_

// Carries out the steps of a program on a VM of the core.

#include <cstdint>

#include "harness/core/complaints.h"
#include "harness/core/core_host.h"
#include "harness/core/core_vm.h"
#include "harness/core/dirty_rings.h"
#include "harness/core/fault_tally.h"
#include "harness/core/host_steps.h"
#include "harness/core/slot_map.h"

namespace twinwalk {

class CoreSteps {
 public:
  // `refault_bound`: how often an access may come back to the same fault with nothing changing in
  // between, before it is a kLiveness.
  CoreSteps(CoreVm& core, SlotMaps& slots, CoreHost& host, Complaints& complaints,
            unsigned refault_bound)
      : core_(core),
        host_(host),
        complaints_(complaints),
        host_steps_(core, slots, host),
        refault_bound_(refault_bound) {}

  // Of a run whose steps this object executes, all of them.
  void reset() { rings_.reset(core_.machine()); }
  void execute(const Op& op, Outcome& out, OutcomeStream& stream);
  // Steps that overlap: a page may be in the log and not yet in a ring.
  void set_overlapping(bool overlapping) { overlapping_ = overlapping; }

  // For CoreHost::attempt: the core answers a #PF of the processor. True: the access is over.
  bool answer_fault(const Op& op, std::uint64_t fault_gva, std::uint32_t error_code, Outcome& out);
  // The same of an exit for want of a second-dimension translation.
  bool answer_tdp_fault(const Op& op, const mmu::TdpFault& fault, Outcome& out);
  // What the core makes of such an exit of an instruction that it is not to do itself: kRetry, or
  // why the processor cannot.
  mmu::FaultResult::Kind handle_tdp_fault(const Op& op, const mmu::TdpFault& fault);
  // The vCPU's page-modification log at an exit.
  void restore_identity_map() { host_steps_.restore_identity_map(); }
  void flush_pml(const Op& op, mmu::u16 index) { vcpu(op).flush_pml(index); }
  // For Platform::lookup_frame: the host breaks copy-on-write where it finds it.
  void break_cow(std::uint64_t hva) { host_steps_.break_cow(hva); }

  // For a host whose processor may have had the core change something without a #PF.
  void note_core_ran() { core_ran_ = true; }
  // Whether the core may have changed anything since the last call.
  bool take_core_ran() {
    const bool ran = core_ran_;
    core_ran_ = false;
    return ran;
  }

 private:
  void access(const Op& op, Outcome& out);
  bool try_access(const Op& op, Outcome& out);
  bool empty_dirty_ring(unsigned vcpu);
  void check_dirty_rings(const Op& op, const Outcome& out, const OutcomeStream& stream);
  void guest_store(const Op& op, Outcome& out);
  void get(const Op& op, Outcome& out);
  void note_tdp_fault(const Op& op, const mmu::TdpFault& fault);
  mmu::Vcpu& vcpu(const Op& op) { return core_.vcpu(op.vcpu); }

  CoreVm& core_;
  CoreHost& host_;
  Complaints& complaints_;
  HostSteps host_steps_;
  const unsigned refault_bound_;
  CoreFault fault_[kMaxVcpus];  // that the access at hand met last; nothing: a turn without one
  DirtyRings rings_;
  bool core_ran_ = false, overlapping_ = false;
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_STEPS_H_
