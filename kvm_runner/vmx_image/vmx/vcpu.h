#ifndef TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_VCPU_H_
#define TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_VCPU_H_

// One virtual processor: a VMCS, entered with what the caller says. Every exception, I/O
// instruction and access to an MSR of its is an exit, so that it needs neither IDT nor stack.

#include <cstdint>
#include <string>

#include "kvm_runner/vmx_image/boot/descriptors.h"
#include "kvm_runner/vmx_image/vmx/capabilities.h"
#include "kvm_runner/vmx_image/vmx/fields.h"

namespace twinwalk::vmx {

// Of those that a stub of the payload uses; the order is that of enter.S.
struct GuestRegisters {
  std::uint64_t rax = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0;
};

struct Entry {
  std::uint64_t cr0 = 0, cr3 = 0, cr4 = 0, efer = 0;
  // Bits of CR0 and CR4 whose writing exits, unless they are written as they are read.
  std::uint64_t cr0_mask = 0, cr4_mask = 0;
  std::uint64_t cr0_read = 0, cr4_read = 0;  // as the guest reads masked bits
  std::uint64_t rip = 0;
  std::uint8_t cpl = 0;
  bool ac = false;
  std::uint64_t eptp = 0;  // 0: one dimension; MOV to and from CR3, INVLPG and INVPCID exit then
  bool unrestricted = false, mbec = false;
  bool pdptes_valid = false;
  std::uint64_t pdpte[4] = {};
  std::uint64_t pml = 0;  // 0: off
  GuestRegisters registers;
};

struct Exit {
  bool entered = false;  // false: `why`
  ExitReason reason = ExitReason::kException;
  std::uint64_t qualification = 0, gpa = 0, gla = 0, rip = 0;
  unsigned vector = 0;  // kException
  std::uint32_t error_code = 0;
  std::uint16_t pml_index = 511;
  GuestRegisters registers;
  std::string why;
};

class Vcpu {
 public:
  static constexpr std::uint16_t kPmlStart = 511;

  // `region`: a page for the VMCS. `index`: its VPID is one more.
  Vcpu(const Capabilities& capabilities, const DescriptorTables& tables, std::uint64_t region,
       unsigned index);

  Exit run(const Entry& entry);
  std::uint16_t vpid() const { return vpid_; }

 private:
  void write_constant_fields();
  void write_host_fields();
  void write_controls(const Entry& entry);
  void write_guest_fields(const Entry& entry);
  void read_exit(Exit& exit);

  const Capabilities& capabilities_;
  const DescriptorTables tables_;
  const std::uint64_t region_;
  const std::uint16_t vpid_;
  bool launched_ = false, made_ = false;
};

}  // namespace twinwalk::vmx

#endif  // TWINWALK_KVM_RUNNER_VMX_IMAGE_VMX_VCPU_H_
