#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_PROCESSOR_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_PROCESSOR_H_

// The processor in VMX operation, with a virtual one for each vCPU of a trace; they take turns on
// it. Each has a VPID of its own.

#include <cstdint>
#include <memory>
#include <string>

#include "harness/trace/machine.h"
#include "kvm_runner/stub_call.h"
#include "kvm_runner/vmx_image/vmx/capabilities.h"
#include "kvm_runner/vmx_image/vmx/instructions.h"
#include "kvm_runner/vmx_image/vmx/vcpu.h"
#include "mmu_core/platform.h"

namespace twinwalk::vmx {

class Processor {
 public:
  // False, and why for a person, if there is no VMX.
  bool open(const DescriptorTables& tables, std::string& why);

  const Capabilities& capabilities() const { return capabilities_; }
  bool has(std::uint32_t feature) const { return (capabilities_.features & feature) == feature; }

  Exit run(unsigned vcpu, const Entry& entry) { return vcpu_[vcpu]->run(entry); }

  // With one dimension: by INVVPID of just what is asked for.
  void flush(const mmu::FlushRequest& request);
  // With two: what the second one holds goes by INVEPT.
  void flush_nested(const mmu::FlushRequest& request);
  // All that is tagged with that vCPU's VPID.
  void flush_vcpu(unsigned vcpu);
  void flush_all();

 private:
  void invvpid(InvvpidType type, unsigned vcpu, std::uint64_t linear);
  void invept_all();
  void flush_linear(const mmu::FlushRequest& request, unsigned vcpu);

  Capabilities capabilities_;
  std::unique_ptr<Vcpu> vcpu_[kMaxVcpus];
};

// How a stub came back.
kvm::StubExit stub_exit_of(const Exit& exit);

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_PROCESSOR_H_
