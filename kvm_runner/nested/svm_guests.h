#ifndef TWINWALK_KVM_RUNNER_NESTED_SVM_GUESTS_H_
#define TWINWALK_KVM_RUNNER_NESTED_SVM_GUESTS_H_

// vCPUs whose own guest runs the payload: the code in the VM is a hypervisor that enters it by
// VMRUN.
//
//   this process      the VM                             its guest
//   run() ──────────► VMRUN ───────────────────────────► stub ─► OUT, which nobody intercepts
//   run(), once more ──────────────────────────────────► stub ─► OUT
//                     OUT ◄─── #VMEXIT: nested fault ─── stub
//
// So a vCPU stays with its guest from one stub to the next, and nothing is flushed on the way; a
// stub of the hypervisor brings it back first, by an NMI. The guest has the runner's pages at the
// linear and guest-physical addresses at which the hypervisor has them.

#include <array>
#include <cstdint>

#include "harness/trace/outcome.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/stub_call.h"
#include "kvm_runner/vm.h"

namespace twinwalk::kvm {

class SvmGuests {
 public:
  // The registers of a hypervisor whose nested tables have `levels` levels, 4 or 5.
  static Registers hypervisor_registers(const Layout& layout, unsigned levels, bool nxe);
  // The entry of nested tables of that level, 3 to 5, below which the runner's pages are.
  static std::uint64_t entry_to_runner(const Layout& layout, unsigned level);

  // Of a VM that was made with hypervisor_registers(); the guests start with `registers`.
  SvmGuests(Vm& vm, const Layout& layout, unsigned levels, unsigned vcpus,
            const Registers& registers);

  // VMRUN with that nCR3, in which the runner's pages have to be, ASID and TLB_CONTROL, to where
  // the guest does nothing. kLeftGuest: the processor refused.
  StubExit enter(unsigned vcpu, std::uint64_t root, std::uint32_t asid, std::uint8_t tlb_control);
  bool has_guest(unsigned vcpu) const { return cpus_[vcpu].entered; }
  std::uint64_t root(unsigned vcpu) const { return cpus_[vcpu].root; }
  void leave(unsigned vcpu) { cpus_[vcpu].entered = false; }

  // A stub of the guest's, in guest mode. `own_entry`: the gpa of the runner's entry in its root.
  // kSecondDimension: a nested page fault, EXITINFO1 and 2.
  StubExit run(unsigned vcpu, const StubCall& call, std::uint64_t own_entry);
  // Brings all vCPUs back from their guests. False if one does not come.
  bool call_back();

  // A stub of the hypervisor's.
  StubExit run_outside(unsigned vcpu, const StubCall& call);

 private:
  struct Cpu {
    bool entered = false;    // in the trace's eyes
    bool in_guest = false;   // the vCPU now
    bool long_mode = false;  // the guest's
    std::uint64_t root = 0;
  };
  StubExit vmrun(unsigned vcpu, Stub first);
  void read_exit(unsigned vcpu, StubExit& exit);
  void finish_without_way(unsigned vcpu, StubExit& exit) const;
  StubExit come_back(unsigned vcpu);

  Vm& vm_;
  const Layout layout_;
  std::array<Cpu, kMaxVcpus> cpus_{};
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_NESTED_SVM_GUESTS_H_
