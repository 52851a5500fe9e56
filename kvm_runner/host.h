#ifndef TWINWALK_KVM_RUNNER_HOST_H_
#define TWINWALK_KVM_RUNNER_HOST_H_

// The host's /dev/kvm: what it can offer a guest, and what it is called in results.

#include <linux/kvm.h>

#include <cstdint>
#include <string>
#include <vector>

#include "harness/trace/machine.h"

namespace twinwalk::kvm {

// An open /dev/kvm. Move-only by being neither: hold it by pointer or as a member.
class Host {
 public:
  Host() = default;
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // False and the reason, for a person, if there is no usable KVM.
  bool open(std::string& why);

  int fd() const { return fd_; }
  std::uint32_t features() const { return features_; }  // feature::* that a guest can have
  unsigned maxphyaddr() const { return maxphyaddr_; }
  Vendor vendor() const { return vendor_; }
  // The guest's MAXPHYADDR may be below the host's and its reserved bits still fault.
  bool honours_smaller_maxphyaddr() const { return smaller_maxphyaddr_; }
  // Some module of the host shadows guest tables (no EPT or NPT): host edits of them need a zap to
  // be seen.
  bool shadows() const { return shadows_; }
  // CPL 0 of guests is not executed but emulated, instruction by instruction (KVM without hardware
  // virtualization).
  bool emulates_supervisor() const { return emulates_supervisor_; }
  // QEMU's translator, which emulates SVM, never comes back from a guest with nested paging that
  // has EFER.LME set, and neither paging nor CR4.PAE on.
  bool hangs_with(const Registers& r) const {
    return translated_ && !shadows_ && (r.efer & efer::kLme) != 0 && (r.cr0 & cr0::kPg) == 0 &&
           (r.cr4 & cr4::kPae) == 0;
  }
  // Its walker sets A in PDPTEs of PAE paging (corpus/known, qemu-tcg-pdpte-accessed), and tries
  // for ever where they are in read-only memory.
  bool sets_a_in_pdptes() const { return translated_ && !shadows_; }
  // Its MOV to CR3 takes reserved bits, with which no VM entry of KVM's is possible any more.
  bool takes_reserved_cr3() const { return translated_ && !shadows_; }
  // It has guests in 4-level mode only: the same kind of KVM.
  bool only_4_level() const { return emulates_supervisor_; }

  // Guests may be hypervisors with nested paging, SVM's; and have VMRUN flush one ASID.
  bool offers_nested_paging() const { return nested_paging_; }
  bool flushes_by_asid() const { return flush_by_asid_; }

  // CPUID for a guest that is `machine`, as far as the host can: features that either lacks are
  // off.
  std::vector<kvm_cpuid_entry2> cpuid_for(const Machine& machine) const;

  // Kernel release, KVM kind, module parameters, CPU model, microcode: what tells two hosts apart.
  const std::string& version() const { return version_; }

 private:
  int fd_ = -1;
  std::uint32_t features_ = 0;
  unsigned maxphyaddr_ = 36;
  Vendor vendor_ = Vendor::kIntel;
  bool smaller_maxphyaddr_ = false, shadows_ = false, emulates_supervisor_ = false,
       translated_ = false, nested_paging_ = false, flush_by_asid_ = false;
  std::vector<kvm_cpuid_entry2> cpuid_;
  std::string version_;
};

}  // namespace twinwalk::kvm

#endif  // TWINWALK_KVM_RUNNER_HOST_H_
