#ifndef TWINWALK_KVM_RUNNER_CORE_KVM_SUBJECT_H_
#define TWINWALK_KVM_RUNNER_CORE_KVM_SUBJECT_H_

// Subject `core-kvm`: mmu_core's shadow tables, walked by a processor. The VM's guest-physical
// space is the core's host-physical space, the vCPU's CR3 is the core's shadow root, and each #PF
// in the VM is an exit to the core.
//
//   trace step ──► core ──► shadow tables in CoreArena ──► vCPU runs the access ──► #PF ──►
//   Vcpu::handle_fault
//
// Flush requests are carried out in full whatever they ask for: the vCPU's own flush, and a zap of
// what KVM derived from the tables (a KVM that shadows them does not see them change).

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "kvm_runner/core_arena_mapping.h"
#include "kvm_runner/core_hardware.h"
#include "kvm_runner/host.h"
#include "kvm_runner/layout.h"
#include "kvm_runner/vm.h"

namespace twinwalk::kvm {

class CoreKvmSubject final : public CoreHardware {
 public:
  // False and the reason without a usable /dev/kvm.
  bool open(std::string& why);

 private:
  // CoreRun
  SkipReason prepare(const Machine& machine) override;
  void after_run(bool trapped) override;
  // CoreHardware
  bool has_host(std::uint32_t feature) const override {
    return (host_.features() & feature) == feature;
  }
  StubExit run_in_guest(const Op& op, const mmu::EntryState& entry, const StubCall& call) override;
  std::uint64_t runner_entry(unsigned levels) const override { return root_entry(levels); }
  bool is_beyond(const Op& op, const mmu::EntryState& entry) const override;
  std::uint32_t error_code_of(const Op& op, const StubExit& exit) const override;
  // mmu::Platform
  void flush_tlb(const mmu::FlushRequest& request) override;

  bool open_vm(const Machine& machine);
  void load_paging(const Op& op, const mmu::EntryState& entry);

  // Of its processor, whatever the guest has; some more where the core asks for it.
  static constexpr std::uint64_t kCr4 = cr4::kPae | cr4::kPge;

  Host host_;
  CoreArenaMapping mapping_;
  std::unique_ptr<Vm> vm_;
  // With what a vCPU last ran; cr3 == 0: it owes a flush.
  struct Loaded {
    std::uint64_t cr3 = 0, cr4 = 0;
    std::uint16_t pcid = 0;
    std::uint32_t pkru = 0;
  };
  std::array<Loaded, kMaxVcpus> loaded_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_CORE_KVM_SUBJECT_H_
