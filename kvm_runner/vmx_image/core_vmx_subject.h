#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_CORE_VMX_SUBJECT_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_CORE_VMX_SUBJECT_H_

// Subject `core-vmx`: mmu_core as a VMX hypervisor on this processor.
//
//   core=shadow   EPT off. The guest runs 64-bit stubs on the core's shadow root; what it executes
//                 of CR and EFER writes, INVLPG and INVPCID exits, and the core does the rest.
//   core=ept      The guest runs on the trace's own tables; EPT_POINTER is the core's. Register
//                 writes and invalidations are the guest's own and do not exit.
//
// Flush requests are carried out as they are asked for, by INVVPID and INVEPT.

#include <cstdint>
#include <string>

#include "kvm_runner/core_hardware.h"
#include "kvm_runner/vmx_image/processor.h"

namespace twinwalk::vmx {

class CoreVmxSubject final : public kvm::CoreHardware {
 public:
  // `processor` is open and outlives this; the arena's memory is mapped one to one.
  CoreVmxSubject(Processor& processor, const kvm::CoreArena::Place& place);

  // With two dimensions the guest's tables are walked by hardware, whose TLB is the architecture's.
  Profile profile_for(const Machine& machine) const override {
    return machine.core == Dimension::kShadow ? Profile::kKvm : Profile::kArchitecture;
  }

 private:
  // CoreRun, CoreHost
  SkipReason prepare(const Machine& machine) override;
  void started(mmu::Vm& vm) override;
  void after_run(bool trapped) override { end_run(trapped); }
  SkipReason why_not(const Op& op) const override;
  void execute_and_exit(const Op& op) override;
  void executed(const Op& op, const Registers& before) override;
  // mmu::Platform
  mmu::FrameLookup lookup_frame(mmu::Hva hva, bool write) override;
  void flush_tlb(const mmu::FlushRequest& request) override;
  // CoreHardware
  bool has_host(std::uint32_t feature) const override { return processor_.has(feature); }
  std::uint64_t runner_entry(unsigned levels) const override;
  kvm::StubExit run_in_guest(const Op& op, const mmu::EntryState& entry,
                             const kvm::StubCall& call) override;
  kvm::StubExit run_below(const Op& op, const mmu::EntryState& entry,
                          const kvm::StubCall& call) override;
  bool is_beyond(const Op& op, const mmu::EntryState& entry) const override;
  void fault_injected(unsigned vcpu) override { processor_.flush_vcpu(vcpu); }

  SkipReason prepare_shadow(const Machine& machine);
  Entry shadow_entry(const Op& op, const mmu::EntryState& entry);
  void complain_if_not_exited(const Op& op, const Exit& exit);

  // Two dimensions (core_vmx_ept.cc).
  // Memory as the trace has it, by which a walk tells whether it meets the runner's entry.
  class PlantedView final : public kvm::WordReader {
   public:
    PlantedView(const CoreVmxSubject& subject, unsigned space, std::uint64_t planted)
        : subject_(subject), space_(space), planted_(planted) {}
    bool read_word(std::uint64_t gpa, std::uint64_t& word) const override {
      return Memory(subject_, space_).read_word(gpa, word);
    }
    bool is_trace_word(std::uint64_t gpa) const override;

   private:
    const CoreVmxSubject& subject_;
    const unsigned space_;
    const std::uint64_t planted_;  // hva
  };
  SkipReason prepare_ept(const Machine& machine);
  Entry ept_entry(const Registers& registers, const mmu::EntryState& entry) const;
  std::uint64_t* runner_word(unsigned page);
  bool hva_of(unsigned space, std::uint64_t gpa, std::uint64_t& hva) const;
  std::uint64_t* planting_place(unsigned space, std::uint64_t cr3);
  bool execute_in_guest(const Op& op, const Registers& before);

  Processor& processor_;
  std::uint64_t pages_;  // the runner's, for shadow roots
  std::uint16_t loaded_pcid_[kMaxVcpus] = {};
};

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_CORE_VMX_SUBJECT_H_
