#ifndef TWINWALK_HARNESS_CORE_CORE_VM_H_
#define TWINWALK_HARNESS_CORE_CORE_VM_H_

// One VM of the core, in storage that serves run after run, and the registers of its vCPUs.

#include <cstdint>

#include "harness/trace/machine.h"
#include "harness/trace/op.h"
#include "mmu_core/mmu.h"

namespace twinwalk {

// Of has_identity_map(): the last page that the host backs.
inline constexpr std::uint64_t kIdentityMapHva = kHvaBase + (std::uint64_t{4} << 30) - 4096;

class CoreVm {
 public:
  CoreVm();
  ~CoreVm();
  CoreVm(const CoreVm&) = delete;
  CoreVm& operator=(const CoreVm&) = delete;

  // The machine at the start of a trace: memslot 0 and every vCPU in its initial state. A core that
  // refuses any of this has panicked.
  void create(mmu::Platform& platform, const Machine& machine, mmu::u8* state_counters);
  void destroy();
  // After a panic: what it held is its platform's to clear.
  void abandon() { vm_ = nullptr; }

  mmu::Vm& vm() { return *vm_; }
  mmu::Vcpu& vcpu(unsigned v) { return vm_->vcpu(v); }

  // As the processor has them after the writes that the core accepted.
  const Registers& registers(unsigned v) const { return registers_[v]; }
  void set_cpl(unsigned v, std::uint8_t cpl);
  // False: #GP(0), nothing changed.
  bool write_register(unsigned v, Reg reg, std::uint64_t value);
  // The verb `sregs`. False: refused, nothing changed.
  bool set_sregs(const Op& op);

  // Events of a whole vCPU.
  bool in_smm(unsigned v) const { return smm_[v]; }
  void set_smm(unsigned v, bool smm) { vcpu(v).set_smm(smm_[v] = smm); }
  void init(unsigned v, bool reset);
  void recreate(mmu::Platform& platform, unsigned v);
  // The machine with the capabilities that it has now.
  const Machine& machine() const { return machine_; }
  // The verb `cpuid`. False: refused, nothing changed.
  bool set_cpuid(const Op& op);

 private:
  void adopt_registers(unsigned v);

  void* storage_;
  mmu::Vm* vm_ = nullptr;
  Machine machine_;
  Registers registers_[kMaxVcpus];
  bool smm_[kMaxVcpus] = {};
};

}  // namespace twinwalk

#endif  // TWINWALK_HARNESS_CORE_CORE_VM_H_
